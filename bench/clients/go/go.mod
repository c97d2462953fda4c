module bench

go 1.22

require (
	protocol v0.0.0
	xqueue v0.0.0
)

replace protocol => ../protocol

replace xqueue => ../../../clients/go
