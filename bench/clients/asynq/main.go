// Asynq for `npm run bench -- clients`: the same measures as ../go, with kept results.
//
//	bench fill 0 COUNT
//	bench work CONCURRENCY COUNT
//	bench submit CALLERS COUNT
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

var redis = asynq.RedisClientOpt{Addr: "127.0.0.1:" + os.Getenv("REDIS_PORT")}

func main() {
	atOnce, _ := strconv.Atoi(os.Args[2])
	count, _ := strconv.Atoi(os.Args[3])
	var seconds float64
	switch os.Args[1] {
	case "fill":
		seconds = submit(20, int64(count))
	case "work":
		seconds = work(atOnce, int64(count))
	case "submit":
		seconds = submit(atOnce, int64(count))
	default:
		log.Fatalf("%s: use fill, work or submit", os.Args[1])
	}
	fmt.Printf("{\"seconds\": %f}\n", seconds)
}

func work(concurrency int, count int64) float64 {
	var ended atomic.Int64
	done := make(chan float64, 1)
	started := time.Now()
	mux := asynq.NewServeMux()
	mux.HandleFunc("bench", func(_ context.Context, task *asynq.Task) error {
		if _, err := task.ResultWriter().Write([]byte("null")); err != nil {
			return err
		}
		if ended.Add(1) == count {
			done <- time.Since(started).Seconds()
		}
		return nil
	})
	server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.ErrorLevel})
	if err := server.Start(mux); err != nil {
		log.Fatal(err)
	}
	seconds := <-done
	server.Shutdown()
	return seconds
}

func submit(callers int, count int64) float64 {
	client := asynq.NewClient(redis)
	payload, _ := json.Marshal(map[string]string{"text": strings.Repeat("x", 88)})
	var group sync.WaitGroup
	left := count
	started := time.Now()
	for caller := 0; caller < callers; caller++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for atomic.AddInt64(&left, -1) >= 0 {
				if _, err := client.Enqueue(asynq.NewTask("bench", payload), asynq.Retention(24*time.Hour)); err != nil {
					log.Fatal(err)
				}
			}
		}()
	}
	group.Wait()
	return time.Since(started).Seconds()
}
