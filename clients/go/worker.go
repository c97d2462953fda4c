package xqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

const (
	consumeWait = 20 * time.Second
	// An answer that has not come by then is not coming, and the connection is replaced.
	consumeTimeout = 30 * time.Second
	// Leases live for 30 s unless the server is set otherwise; a cancel is heard of with a heartbeat.
	heartbeatLeast = 200 * time.Millisecond
	heartbeatMost  = 5 * time.Second
	// A handler that reports in a loop makes no more calls than this.
	progressPause = 200 * time.Millisecond
	// An outcome is offered for as long; if the lease was lost meanwhile, the server says so at once.
	settlePatience     = 60 * time.Second
	consumeBackoffMost = 10 * time.Second
	// After their time at shutdown, handlers that heed their context get this long to end.
	stopTime           = time.Second
	concurrencyDefault = 4
	shutdownDefault    = 30 * time.Second
	errorBytesMax      = 16_000
	delayMost          = 366 * 24 * time.Hour
	leaseLost          = "the lease was lost: out of time, or handed to another worker"
)

// Handler runs a task. What it returns becomes the result, as JSON; an error fails the attempt, which is tried again
// after the type's back-off; [DoNotRetry] and [RetryAfter] steer that. Its context ends when the task is canceled, out
// of time or lost, or when the worker must go. It must stand to run twice: a task goes to another worker when its
// worker dies.
type Handler func(ctx context.Context, attempt *Attempt) (any, error)

// Worker runs tasks over HTTP leases.
type Worker struct {
	// Client is where the tasks come from; default NewClient("", "").
	Client *Client
	// Handlers by task type; at least one.
	Handlers map[string]Handler
	// Concurrency is how many tasks it runs at once; default 4.
	Concurrency int
	// Shutdown is how long running tasks may take at the end; default 30 s. What is left then goes to another worker
	// when its lease ends, and costs no attempt.
	Shutdown time.Duration
	// ID is what the worker is called; default host and process.
	ID string
	// Log is told what happens; default log.Printf.
	Log func(format string, values ...any)
}

type lease struct {
	Lease     string    `json:"lease"`
	ExpiresAt time.Time `json:"expires_at"`
	Task      *Task     `json:"task"`

	Predecessors []Predecessor `json:"predecessors"`
}

// Run takes tasks until the context ends, then lets the running ones finish. It fails when the server refuses this
// worker, as for a wrong key. End the context at SIGTERM with signal.NotifyContext.
func (w Worker) Run(ctx context.Context) error {
	if len(w.Handlers) == 0 {
		return errors.New(`worker without handlers: give at least one, as map[string]xqueue.Handler{"resize": resize}`)
	}
	w.fill()
	running := &attempts{free: make(chan struct{}, w.Concurrency), held: map[*Attempt]struct{}{}}
	err := w.takeTasks(ctx, running)
	if !running.waitUntilIdle(w.Shutdown) {
		for _, attempt := range running.all() {
			// Told to nobody: the lease ends by itself, and the task costs no attempt.
			w.stop(attempt, "the worker shuts down", true)
		}
		running.waitUntilIdle(stopTime)
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

func (w *Worker) takeTasks(ctx context.Context, running *attempts) error {
	delay := backoffFirst
	for {
		free := running.reserve(ctx)
		if free == 0 {
			return nil
		}
		leases, header, err := w.consume(ctx, free)
		running.giveBack(free - len(leases))
		for _, lease := range leases {
			attempt, attemptCtx := w.begin(lease, header)
			running.add(attempt)
			go func() {
				defer running.remove(attempt)
				w.run(attemptCtx, attempt)
			}()
		}
		var refused *Error
		switch {
		case err == nil:
			if delay != backoffFirst {
				w.Log("tasks can be taken again")
			}
			delay = backoffFirst
			continue
		case ctx.Err() != nil:
			return nil
		case !errors.As(err, &refused) || !refused.isPassing():
			return err
		}
		if delay == backoffFirst {
			w.Log("no tasks can be taken, trying again: %v", err)
		}
		wait := refused.RetryAfter
		if wait == 0 {
			wait = shaken(delay)
		}
		_ = sleep(ctx, wait) // Its end is looked at when room is reserved.
		delay = longer(delay, consumeBackoffMost)
	}
}

// consume waits for tasks. When ctx ends, its connection breaks, and the server hands out nothing to nobody.
func (w *Worker) consume(ctx context.Context, most int) ([]lease, http.Header, error) {
	types := make([]string, 0, len(w.Handlers))
	for name := range w.Handlers {
		types = append(types, name)
	}
	body := map[string]any{"types": types, "max": most, "wait": consumeWait.Seconds(), "worker_id": w.ID}
	var answer struct {
		Leases []lease `json:"leases"`
	}
	header, err := w.Client.exchange(ctx, call{"POST", "/tasks/consume", body, &answer}, true, consumeTimeout)
	return answer.Leases, header, err
}

func (w *Worker) begin(lease lease, header http.Header) (*Attempt, context.Context) {
	// Not the worker's context: at shutdown a handler may finish.
	ctx, cancel := context.WithCancel(context.Background())
	// A third of what is left of the lease, both by the server's clock.
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	heartbeat := lease.ExpiresAt.Sub(now) / 3
	if heartbeat < heartbeatLeast {
		heartbeat = heartbeatLeast
	}
	if heartbeat > heartbeatMost {
		heartbeat = heartbeatMost
	}
	return &Attempt{
		Task: lease.Task, Predecessors: lease.Predecessors,
		client: w.Client, lease: lease.Lease, heartbeat: heartbeat, cancel: cancel, reported: make(chan struct{}, 1),
	}, ctx
}

// run runs the handler and settles the lease, which is renewed until then.
func (w *Worker) run(ctx context.Context, attempt *Attempt) {
	settled := make(chan struct{})
	var beating sync.WaitGroup
	beating.Add(1)
	go func() {
		defer beating.Done()
		w.heartbeats(attempt, settled)
	}()
	result, err := w.handle(ctx, attempt)
	w.settle(attempt, result, err)
	close(settled)
	beating.Wait()
	attempt.cancel()
}

// handle runs the handler; its panic is an error like any other.
func (w *Worker) handle(ctx context.Context, attempt *Attempt) (result any, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
		}
	}()
	result, err = w.Handlers[attempt.Task.Type](ctx, attempt)
	if err == nil {
		if result, err = json.Marshal(result); err != nil {
			return nil, DoNotRetry(fmt.Errorf("the result is no JSON: %w", err))
		}
		return json.RawMessage(result.([]byte)), nil
	}
	return nil, err
}

// settle offers the outcome until the server has answered.
func (w *Worker) settle(attempt *Attempt, result any, err error) {
	if progress := attempt.takeProgress(); progress != nil {
		w.beat(attempt, progress)
	}
	why, isLost := attempt.fate()
	if isLost {
		return
	}
	verb, body := "complete", map[string]any{"result": result}
	if err != nil {
		if why != "" {
			err = errors.New(why)
		}
		w.Log("task %s of type %s failed: %v", attempt.Task.ID, attempt.Task.Type, err)
		verb, body = "fail", failure(err)
	}
	err = w.Client.repeat(context.Background(), attempt.call(verb, body, nil), true, settlePatience)
	var refused *Error
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Status == http.StatusGone:
		w.Log("task %s: %v", attempt.Task.ID, err)
	case errors.As(err, &refused) && !refused.isPassing() && verb == "complete":
		w.settle(attempt, nil, DoNotRetry(fmt.Errorf("the result was refused: %w", err)))
	case errors.As(err, &refused) && !refused.isPassing():
		call := attempt.call("fail", plainly(body, err), nil)
		if err := w.Client.repeat(context.Background(), call, true, settlePatience); err != nil {
			w.Log("task %s will run again, its outcome could not be told: %v", attempt.Task.ID, err)
		}
	default:
		w.Log("task %s will run again, its outcome could not be told: %v", attempt.Task.ID, err)
	}
}

// heartbeats renews the lease until it is settled.
func (w *Worker) heartbeats(attempt *Attempt, settled <-chan struct{}) {
	ticker := time.NewTicker(attempt.heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-settled:
			return
		case <-ticker.C:
		case <-attempt.reported:
		}
		w.beat(attempt, attempt.takeProgress())
		if _, isLost := attempt.fate(); isLost {
			return
		}
		select {
		case <-settled:
			return
		case <-time.After(progressPause):
		}
	}
}

func (w *Worker) beat(attempt *Attempt, progress any) {
	body := map[string]any{}
	if progress != nil {
		body["progress"] = progress
	}
	var answer struct {
		CancelRequested bool `json:"cancel_requested"`
	}
	_, err := w.Client.exchange(context.Background(), attempt.call("heartbeat", body, &answer), true, heartbeatMost)
	var refused *Error
	switch {
	case err == nil && answer.CancelRequested:
		w.stop(attempt, "the task was canceled", false)
	case errors.As(err, &refused) && refused.Status == http.StatusGone:
		w.stop(attempt, leaseLost, true)
	case err != nil && (refused == nil || refused.Status != 0):
		w.Log("task %s: a heartbeat was refused: %v", attempt.Task.ID, err)
		if progress != nil && (refused == nil || !refused.isPassing()) {
			w.beat(attempt, nil) // What is no progress must not cost the lease.
		}
	}
}

func (w *Worker) stop(attempt *Attempt, why string, isLost bool) {
	if attempt.stop(why, isLost) {
		w.Log("task %s is told to stop: %s", attempt.Task.ID, why)
	}
}

func (a *Attempt) call(verb string, body, answer any) call {
	return call{"POST", "/leases/" + url.PathEscape(a.lease) + "/" + verb, body, answer}
}
