package xqueue

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sort"
	"sync"
	"time"
)

const (
	consumeWait = 20 * time.Second
	// An answer that has not come by then is not coming, and the connection is replaced.
	consumeTimeout = 30 * time.Second
	// The most of one call.
	claimMost       = 1_000
	reportMost      = 1_000
	reportBytesMost = 4 << 20
	renewMost       = 200 // with up to 16 KiB of progress each
	// Leases live for 30 s unless the server is set otherwise; a cancel is heard of with a heartbeat.
	heartbeatLeast = 200 * time.Millisecond
	heartbeatMost  = 5 * time.Second
	// Progress is sent after this pause, the last value of it.
	progressPause = 200 * time.Millisecond
	// So are lines of the log, all of them.
	logPause     = time.Second
	renewalsLook = 100 * time.Millisecond
	leaveMost    = 2 * time.Second
	// When the worker stops, the answer of the call that waits may be on its way. Without it, the tasks in it would stay
	// with this worker until their leases end.
	lastAnswerMost = 500 * time.Millisecond
	// Time for an answer when the process stood still for longer than its leases; a pause of stillLeast shows that it did.
	answerMost = 50 * time.Millisecond
	stillLeast = time.Second
	// An outcome is offered for this time after its lease has ended by the worker's clock: the server may have been away
	// for all of it, and then the lease still counts.
	settlePatience     = 60 * time.Second
	consumeBackoffMost = 10 * time.Second
	// After their time at shutdown, handlers that heed their context get this long to end.
	stopTime           = time.Second
	concurrencyDefault = 4
	shutdownDefault    = 30 * time.Second
	errorBytesMax      = 16_000
	delayMost          = 366 * 24 * time.Hour
	holdMost           = 24 * time.Hour
	leaseLost          = "the lease was lost: out of time, or handed to another worker"
)

// Handler runs a task. What it returns becomes the result, as JSON; an error fails the attempt, which is tried again
// after the type's back-off; [DoNotRetry], [RetryAfter] and [RateLimited] steer that. Its context ends when the task is canceled, out
// of time or lost, or when the worker must go. It must stand to run twice: a task goes to another worker when its
// worker dies.
type Handler func(ctx context.Context, attempt *Attempt) (any, error)

// Worker runs tasks over HTTP leases.
type Worker struct {
	// Client is where the tasks come from; default NewClient("", "").
	Client *Client
	// Handlers by task type; at least one.
	Handlers map[string]Handler
	// Settings are limits and defaults of types that it declares at its start. Operators overrule them.
	Settings map[string]HandlerSettings
	// Concurrency is how many tasks it runs at once; default 4.
	Concurrency int
	// ClaimAhead is how many tasks it holds at most beside the running ones while handlers end within 5 ms. What does not
	// start within 20 ms is given back. Default 128; below 0: none.
	ClaimAhead int
	// Shutdown is how long running tasks may take at the end; default 30 s. What is left then goes to another worker
	// when its lease ends, and costs no attempt.
	Shutdown time.Duration
	// ID is what the worker is called: up to 100 characters without control characters; default host and process.
	ID string
	// Log receives a line for each event; default log.Printf.
	Log func(format string, values ...any)
}

// Run takes tasks until the context ends, then lets the running ones finish. It fails when the server refuses this
// worker, as for a wrong key. End the context at SIGTERM with signal.NotifyContext.
func (w Worker) Run(ctx context.Context) error {
	if len(w.Handlers) == 0 {
		return errors.New(`worker without handlers: give at least one, as map[string]xqueue.Handler{"resize": resize}`)
	}
	for name := range w.Settings {
		if w.Handlers[name] == nil {
			return fmt.Errorf("settings of %s: there is no handler of that type", name)
		}
	}
	w.fill()
	run := &working{Worker: &w, attempts: newAttempts(w.Concurrency, w.ClaimAhead), turns: &turns{client: w.Client}}
	for name := range w.Handlers {
		run.types = append(run.types, name)
	}
	sort.Strings(run.types) // The server stores a description of the worker when its types change.
	done, end := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){run.report, run.renew} {
		loops.Add(1)
		go func(loop func(context.Context)) {
			defer loops.Done()
			loop(done)
		}(loop)
	}
	err := run.claim(ctx)
	if !run.attempts.waitUntilIdle(w.Shutdown) {
		for _, attempt := range run.attempts.all() {
			// Nothing is reported: the lease expires by itself, and the task costs no attempt.
			run.stop(attempt, "the worker shuts down", true)
		}
		run.attempts.waitUntilIdle(stopTime)
	}
	end()
	loops.Wait()
	if err == nil {
		run.leave()
	}
	return err
}

func (w *Worker) fill() {
	if w.Client == nil {
		w.Client = NewClient("", "")
	}
	if w.Concurrency == 0 {
		w.Concurrency = concurrencyDefault
	}
	if w.ClaimAhead == 0 {
		w.ClaimAhead = claimAheadDefault
	}
	if w.Shutdown == 0 {
		w.Shutdown = shutdownDefault
	}
	if w.ID == "" {
		host, _ := os.Hostname()
		w.ID = fmt.Sprintf("%.80s-%d", host, os.Getpid())
	}
	if w.Log == nil {
		w.Log = log.Printf
	}
}
