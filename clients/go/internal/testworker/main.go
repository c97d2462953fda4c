// A worker for the tests, with a handler for each way in which one can end. The one of the Python client is its twin.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xqueue"
)

func echo(_ context.Context, attempt *xqueue.Attempt) (any, error) {
	return map[string]any{"payload": attempt.Task.Payload, "attempt": attempt.Number()}, nil
}

// steps goes on until all its steps are done, or it is to stop.
func steps(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	var payload struct{ Steps int }
	if err := attempt.Payload(&payload); err != nil {
		return nil, err
	}
	for step := 0; step < payload.Steps; step++ {
		attempt.Progress(map[string]int{"step": step})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return "all steps done", nil
}

// metered uses fewer units than it has asked for; it is refused at first if its payload names a limit.
func metered(_ context.Context, attempt *xqueue.Attempt) (any, error) {
	var limit string
	if json.Unmarshal(attempt.Task.Payload, &limit) == nil && limit != "" && attempt.Fence() == 1 {
		return nil, xqueue.LimitReached(limit, time.Hour, errors.New("HTTP 429"))
	}
	attempt.Usage(map[string]int{"tokens": 1})
	return "metered", nil
}

func busyFirst(_ context.Context, attempt *xqueue.Attempt) (any, error) {
	if attempt.Number() == 1 {
		return nil, xqueue.RetryAfter(10*time.Millisecond, errors.New("busy"))
	}
	return attempt.Number(), nil
}

func later(_ context.Context, attempt *xqueue.Attempt) (any, error) {
	if attempt.Number() > 1 {
		return attempt.Number(), nil
	}
	var payload string
	if err := attempt.Payload(&payload); err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseFloat(payload, 64)
	if err != nil {
		return nil, err
	}
	return nil, xqueue.RetryAfter(time.Duration(seconds*float64(time.Second)), errors.New("busy"))
}

func limited(_ context.Context, attempt *xqueue.Attempt) (any, error) {
	if attempt.Task.Deliveries > 1 {
		return attempt.Number(), nil
	}
	var seconds float64
	if err := attempt.Payload(&seconds); err != nil {
		return nil, err
	}
	return nil, xqueue.RateLimited(time.Duration(seconds*float64(time.Second)), errors.New("HTTP 429"))
}

func big(context.Context, *xqueue.Attempt) (any, error) {
	return map[string]int64{"id": 1<<53 + 1}, nil
}

// loud runs for longer than its lease lives, and reports what is no progress all the time.
func loud(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	for step := 0; step < 60; step++ {
		if step%2 == 0 {
			attempt.Progress(math.NaN())
		} else {
			attempt.Progress(map[string]string{"text": strings.Repeat("x", 20_000)})
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "kept", nil
}

type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("no JSON of this") }

// unruly reports a map that it goes on changing, and values that break their writer, for longer than its lease lives.
func unruly(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	counts := map[string]int{}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		attempt.Progress(panicking{})
		for step := 0; step < 10_000; step++ {
			counts[strconv.Itoa(step%100)] = step
			attempt.Progress(counts)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return "kept", nil
}

// watch writes on each look whether it holds its lease, and after which look it had stood still, until it is stopped.
func watch(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	for last := time.Now(); ; {
		time.Sleep(5 * time.Millisecond)
		isOver := ctx.Err() != nil
		now := time.Now()
		if now.Sub(last) > time.Second/2 {
			log.Printf("woke with fence %d", attempt.Fence())
		}
		last = now
		log.Printf("looked: %v", attempt.IsHeld())
		if isOver {
			log.Print("aborted")
			return nil, ctx.Err()
		}
	}
}

// gated says that it has begun with one file, and ends when another exists.
func gated(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	var path string
	if err := attempt.Payload(&path); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path+".begun", nil, 0o600); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if _, err := os.Stat(path); err == nil {
			return "through", nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, ctx.Err()
}

func never(context.Context, *xqueue.Attempt) (any, error) {
	return nil, xqueue.DoNotRetry(errors.New("this cannot work"))
}

func crash(context.Context, *xqueue.Attempt) (any, error) {
	panic("out of order")
}

type wordlessError struct{ text string }

func (e *wordlessError) Error() string { return e.text }

// wordless fails with an error whose text cannot be read: a nil pointer in an interface, as is easily returned.
func wordless(context.Context, *xqueue.Attempt) (any, error) {
	var err *wordlessError
	return nil, err
}

func strange(context.Context, *xqueue.Attempt) (any, error) {
	return make(chan int), nil
}

func join(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	rows := [][]any{}
	for _, handed := range attempt.Predecessors {
		one, err := attempt.Predecessor(ctx, handed.ID)
		if err != nil {
			return nil, err
		}
		var failure any
		if one.Error != "" {
			failure = one.Error
		}
		rows = append(rows, []any{one.ID, one.Type, one.Status, one.Result, failure})
	}
	return rows, nil
}

func talks(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	var seconds float64
	if err := attempt.Payload(&seconds); err != nil {
		return nil, err
	}
	attempt.Log("info", "begun", map[string]any{"number": attempt.Number()})
	attempt.Log("warn", "odd", map[string]any{"value": math.NaN()})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
	attempt.Log("info", "done", nil)
	return nil, nil
}

func lengths(ctx context.Context, attempt *xqueue.Attempt) (any, error) {
	lengths := []int{}
	for _, handed := range attempt.Predecessors {
		one, err := attempt.Predecessor(ctx, handed.ID)
		if err != nil {
			return nil, err
		}
		var result struct{ Payload string }
		if err := json.Unmarshal(one.Result, &result); err != nil {
			return nil, err
		}
		lengths = append(lengths, len(result.Payload))
	}
	return lengths, nil
}

func main() {
	log.SetFlags(0)
	shutdown := 30.0
	if len(os.Args) > 1 {
		shutdown, _ = strconv.ParseFloat(os.Args[1], 64)
	}
	client := xqueue.NewClient("", "")
	client.Patience = -1
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	retries, jitter := 5, 0.0
	worker := xqueue.Worker{
		Client: client,
		Handlers: map[string]xqueue.Handler{
			"echo": echo, "steps": steps, "busy": busyFirst, "never": never, "crash": crash, "strange": strange, "join": join,
			"later": later, "big": big, "loud": loud, "lengths": lengths, "wordless": wordless, "unruly": unruly,
			"limited": limited, "metered": metered, "talks": talks, "watch": watch, "gated": gated,
		},
		Settings: map[string]xqueue.HandlerSettings{"steps": {
			Concurrency:      70,
			GroupConcurrency: 7,
			Rate:             &xqueue.Rate{Max: 900, Per: "1m"},
			Uses:             map[string]int{"declared": 2},
			Limits:           map[string]xqueue.NamedLimit{"declared": {Max: 90}},
			MaxRetry:         &retries,
			QueueTimeout:     "2h",
			Retry:            &xqueue.Backoff{Base: "3s", Jitter: &jitter},
			Retention:        map[string]string{"failed": "9d"},
		}},
		Concurrency: 3,
		Shutdown:    time.Duration(shutdown * float64(time.Second)),
		ID:          "worker-under-test",
	}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
