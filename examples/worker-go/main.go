// A worker in Go: counts the primes below a number, and says how far it is.
//
//	npm start
//	cd examples/worker-go && go run .                                         (in another terminal)
//	npm run xqueue -- submit primes '{"below": 1000000}' --wait               (in a third one)
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"xqueue"
)

const most = 100_000_000

func primes(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	var payload struct{ Below int }
	if err := attempt.Payload(&payload); err != nil {
		return nil, err
	}
	if payload.Below < 0 || payload.Below > most {
		return nil, xqueue.DoNotRetry(errors.New("below must be from 0 to 100,000,000"))
	}
	composite := make([]bool, payload.Below)
	count := 0
	for number := 2; number < payload.Below; number++ {
		if number%100_000 == 0 {
			attempt.Progress(100 * float64(number) / float64(payload.Below))
			if ctx.Err() != nil { // canceled, out of time, or lost
				return nil, ctx.Err()
			}
		}
		if composite[number] {
			continue
		}
		count++
		for multiple := number * number; multiple < payload.Below; multiple += number {
			composite[multiple] = true
		}
	}
	return map[string]int{"primes": count}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	worker := xqueue.Worker{
		Handlers:    map[string]xqueue.Handler{"primes": primes},
		Concurrency: runtime.NumCPU(),
	}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
