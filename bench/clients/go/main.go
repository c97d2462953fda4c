// A worker or a submitter of the Go client, for `npm run bench -- clients`. It prints how long it took.
//
//	bench work CONCURRENCY COUNT
//	bench submit CALLERS COUNT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"xqueue"
)

func main() {
	atOnce, _ := strconv.Atoi(os.Args[2])
	count, _ := strconv.Atoi(os.Args[3])
	var seconds float64
	switch os.Args[1] {
	case "work":
		seconds = work(atOnce, int64(count))
	case "submit":
		seconds = submit(atOnce, int64(count))
	default:
		log.Fatalf("%s: use work or submit", os.Args[1])
	}
	fmt.Printf("{\"seconds\": %f}\n", seconds)
}

// work counts from its start until the last task has ended.
func work(concurrency int, count int64) float64 {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var ended atomic.Int64
	var seconds float64
	started := time.Now()
	handler := func(context.Context, *xqueue.Attempt) (any, error) {
		if ended.Add(1) == count {
			seconds = time.Since(started).Seconds()
			stop()
		}
		return nil, nil
	}
	worker := xqueue.Worker{Handlers: map[string]xqueue.Handler{"bench": handler}, Concurrency: concurrency}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
	return seconds
}

func submit(callers int, count int64) float64 {
	client := xqueue.NewClient("", "")
	payload := map[string]string{"text": strings.Repeat("x", 88)}
	var group sync.WaitGroup
	left := count
	started := time.Now()
	for caller := 0; caller < callers; caller++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for atomic.AddInt64(&left, -1) >= 0 {
				if _, err := client.Submit(context.Background(), xqueue.NewTask{Type: "bench", Payload: payload}); err != nil {
					log.Fatal(err)
				}
			}
		}()
	}
	group.Wait()
	return time.Since(started).Seconds()
}
