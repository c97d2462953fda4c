module xqueue

go 1.19
