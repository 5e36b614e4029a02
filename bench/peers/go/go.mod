module tarn-pause-go

go 1.18
