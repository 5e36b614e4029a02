# cmake -D IN=text -D OUT=c -P embed.cmake: a C array `prelude` of the bytes of IN.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "extern const char prelude[];\nconst char prelude[] = {${bytes}0};\n")
