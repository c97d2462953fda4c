module bench

go 1.19

require xqueue v0.0.0

replace xqueue => ../../../clients/go
