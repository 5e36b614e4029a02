# doxygen.awk - Doxygen's input filter: makes of the public headers' plain comments what
# it takes for documentation.
#
#   - a comment on lines of its own is of the declaration below it, and of those that
#     follow it without an empty line between;
#   - one behind code is of that code;
#   - the first one of a file is of the file;
#   - a ruler, "--- inline allocation ---", is of nothing.
#
# The fields that TARN_OPTIONS_TABLE and its like make are written out, with their texts.
# Lines stay what they are otherwise, but their numbers change.

function escape(text) {
    gsub(/[\\<>@#%&$]/, "\\\\&", text)
    return text
}

# What X(name, ..., "text") rows say, as fields by the macro's body.
function fields(table, maker,    i, n, row, text, name, line) {
    n = split(tables[table], row, "\n")
    for (i = 1; i < n; i++) {
        name = row[i]
        sub(/^ *X\(/, "", name)
        sub(/[, ].*/, "", name)
        text = row[i]
        sub(/^[^"]*"/, "", text)
        gsub(/" *"/, "", text)
        sub(/"\)? *$/, "", text)
        line = makers[maker]
        sub(/##name/, "NAME_", line)
        sub(/refused_NAME_/, "refused_" name, line)
        sub(/ name;/, " " name ";", line)
        print "    " line " /**< " escape(text) " */"
    }
}

# Between declarations at the outermost level: with no comment of its own, the next one
# gets the one before.
function code(line,    open, close_) {
    if (depth == 0 && fresh && group != "" && !commented &&
        (line !~ /^#/ || line ~ /^#define [A-Z_]*[A-Z]( |\(|$)/) &&
        line !~ /^TARN_(BEGIN|END)_DECLS/ && line !~ /^}/)
        printf "%s", group
    fresh = 0
    commented = 0
    text = line
    gsub(/"[^"]*"/, "", text)
    open = gsub(/\{/, "{", text)
    close_ = gsub(/\}/, "}", text)
    depth += open - close_
    if (depth == 0 && (text ~ /; *$/ || text ~ /^}/))
        fresh = 1
    if (line ~ /^#define / && line !~ /\\$/)
        fresh = 1
}

BEGIN { group = ""; depth = 0; first = 1; fresh = 1 }

# The tables: kept, and handed on as they are.
/^#define [A-Z_]+\(X\)/ {
    table = $2
    sub(/\(.*/, "", table)
    in_table = 1
}
in_table {
    if ($0 !~ /^#define/) {
        line = $0
        more = sub(/ *\\$/, "", line)
        sub(/^ +/, "", line)
        if (line ~ /^X\(/)
            tables[table] = tables[table] line
        else
            tables[table] = tables[table] " " line
        if (line ~ /\)$/)
            tables[table] = tables[table] "\n"
    }
    if (group != "" && $0 ~ /^#define/ && !commented)
        printf "%s", group
    commented = 0
    print
    if ($0 !~ /\\$/)
        in_table = 0
    next
}
/^#define [A-Z_]+_FIELD_\(/ {
    maker = $2
    sub(/\(.*/, "", maker)
    body = $0
    sub(/^[^)]*\) */, "", body)
    makers[maker] = body
    next
}
/^#undef [A-Z_]+_FIELD_/ { next }
/^ *[A-Z_]+\([A-Z_]+_FIELD_\)/ {
    line = $0
    gsub(/[ );]/, "", line)
    split(line, part, "(")
    fields(part[1], part[2])
    next
}

# Comments on lines of their own.
!in_comment && /^ *\/\*/ {
    in_comment = 1
    ruler = $0 ~ /\/\* ---/ || $0 ~ /clang-format/
    comment = ""
}
in_comment == 1 {
    end = $0 ~ /\*\/ *$/
    line = $0
    if (!ruler) {
        indent = line
        sub(/[^ ].*/, "", indent)
        sub(/^ *(\/\*| \*\/|\*\/|\*)/, "", line)
        sub(/ *\*\/ *$/, "", line)
        line = escape(line)
        if (first) {
            name = $2
            sub(/^ [^ ]+ - /, " ", line)
            comment = "/** @file " name "\n" " *" line "\n"
            first = 0
            is_file = 1
        } else {
            comment = comment (comment == "" ? indent "/**" : indent " *") line "\n"
        }
    }
    if (end) {
        in_comment = 0
        if (ruler) {
            group = ""
        } else {
            comment = comment indent " */\n"
            printf "%s", comment
            if (is_file)
                group = ""
            else if (depth == 0)
                group = comment
            commented = !is_file
            is_file = 0
        }
    }
    next
}

# Behind code, perhaps on several lines.
in_comment == 2 {
    line = $0
    end = line ~ /\*\/ *$/
    sub(/^ *\*?/, "", line)
    sub(/ *\*\/ *$/, "", line)
    print "     " escape(line) (end ? " */" : "")
    if (end)
        in_comment = 0
    next
}
/[^ ].*\/\*/ && !/^ *\/\*/ {
    at = index($0, "/*")
    before = substr($0, 1, at - 1)
    behind = substr($0, at + 2)
    end = behind ~ /\*\/ *$/
    sub(/ *\*\/ *$/, "", behind)
    sub(/ *$/, "", before)
    code(before)
    if (before ~ /\{$/)
        print before
    else
        print before " /**<" escape(behind) (end ? " */" : "")
    if (!end && before !~ /\{$/)
        in_comment = 2
    next
}

/^ *$/ {
    if (depth == 0) {
        group = ""
        fresh = 1
    }
    print
    next
}
{
    code($0)
    print
}
