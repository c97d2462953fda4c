package xqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"
)

// working is a worker that runs. Three loops make its calls: one waits for tasks, one reports outcomes and claims tasks
// with the same call, one renews leases. Outcomes that come while a call is under way share the next one.
type working struct {
	*Worker
	types    []string
	attempts *attempts
	turns    *turns
	clock    serverClock
}

// claim waits for tasks while there is room, until ctx ends.
func (w *working) claim(ctx context.Context) error {
	defer w.attempts.stopClaiming()
	calls, endCalls := context.WithCancel(context.Background())
	defer endCalls()
	go func() {
		select {
		case <-ctx.Done():
			w.attempts.stopClaiming()
			if !w.turns.isOld.Load() { // An older server cannot take back what has not started.
				_ = sleep(calls, lastAnswerMost)
			}
			endCalls()
		case <-calls.Done():
		}
	}()
	delay := backoffFirst
	isDeclared := len(w.Settings) == 0
	for ctx.Err() == nil {
		var err error
		if !isDeclared {
			err = w.declare(ctx)
			isDeclared = err == nil
		} else if room := w.attempts.reserve(false, !w.turns.isOld.Load()); room > 0 {
			// When the connection breaks, the server releases what it has just claimed for it.
			err = w.takeTurn(calls, turn{Max: room, Wait: consumeWait.Seconds()}, consumeTimeout, nil)
		} else {
			select {
			case <-w.attempts.claim:
			case <-ctx.Done():
			}
			continue
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
		_ = sleep(ctx, pauseAfter(refused, delay))
		delay = longer(delay, consumeBackoffMost)
	}
	return nil
}

// declare tells the server the settings of the types.
func (w *working) declare(ctx context.Context) error {
	handlers := []declaredHandler{}
	for name, settings := range w.Settings {
		handlers = append(handlers, declaredHandler{Type: name, HandlerSettings: settings})
	}
	body := map[string]any{"handlers": handlers}
	_, err := w.Client.exchange(ctx, call{"POST", "/handlers", body, nil}, true, callTimeout)
	var refused *Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		// For a key with bounds, and in older versions, the settings belong to the server alone.
		w.Log("the server does not take the settings of handlers: %v", err)
		return nil
	}
	return err
}

// report reports outcomes until done ends.
func (w *working) report(done context.Context) {
	delay := backoffFirst
	for {
		select {
		case <-w.attempts.report:
		case <-done.Done():
			return
		}
		runtime.Gosched() // Handlers that end in the same moment are reported together.
		outcomes := w.attempts.takeReports()
		if len(outcomes) == 0 {
			continue
		}
		err := w.reportThem(done, outcomes)
		if err == nil {
			delay = backoffFirst
			continue
		}
		var refused *Error
		_ = errors.As(err, &refused)
		_ = sleep(done, pauseAfter(refused, delay))
		delay = longer(delay, backoffMost)
		raise(w.attempts.report)
	}
}

func (w *working) reportThem(done context.Context, outcomes []*report) error {
	turn := turn{Outcomes: outcomes}
	for _, outcome := range outcomes {
		if outcome.attempt.hasNews() {
			turn.Renewals = append(turn.Renewals, w.renewalOf(outcome.attempt))
		}
	}
	if !w.turns.isOld.Load() {
		turn.Max = w.attempts.reserve(true, true)
	}
	answered := false
	err := w.takeTurn(done, turn, callTimeout, func(answer *turnAnswer) {
		answered = true
		again, settled := []*report{}, []*Attempt{}
		for index, outcome := range outcomes {
			if next := w.settled(outcome, answer.Outcomes[index].Problem); next != nil {
				again = append(again, next)
			} else {
				settled = append(settled, outcome.attempt)
			}
		}
		w.attempts.reported(again, settled)
	})
	if answered {
		return nil
	}
	// No answer: they are offered again, until their leases are surely lost.
	now := time.Now()
	again, lost := []*report{}, []*Attempt{}
	for _, outcome := range outcomes {
		if outcome.attempt.isSurelyLost(now) {
			w.Log("task %s will run again, its outcome could not be reported: %v", outcome.attempt.Task.ID, err)
			lost = append(lost, outcome.attempt)
		} else {
			again = append(again, outcome)
		}
	}
	w.attempts.reported(again, lost)
	return err
}

// settled reads the answer to an outcome, and returns the one to report instead, if any.
func (w *working) settled(outcome *report, problem *Error) *report {
	if problem == nil {
		return nil
	}
	if problem.Status != http.StatusGone {
		if next := outcome.instead(problem); next != nil {
			return next
		}
	}
	w.Log("task %s: %v", outcome.attempt.Task.ID, problem)
	return nil
}

// renew renews the leases that are due, until done ends. It shares no call with the others, so that a slow one of those
// costs no lease.
func (w *working) renew(done context.Context) {
	stoodStill := false
	for {
		due, isHolding := []*Attempt{}, false
		now := time.Now()
		for _, attempt := range w.attempts.all() {
			isHolding = true
			if attempt.isDue(now) {
				due = append(due, attempt)
			}
		}
		callOff := func() bool { return true }
		if over := overOf(due); stoodStill && len(over) > 0 {
			callOff = time.AfterFunc(answerMost, func() { w.giveUp(over) }).Stop
		}
		for len(due) > 0 {
			count := len(due)
			if count > renewMost {
				count = renewMost
			}
			w.renewThem(done, due[:count])
			due = due[count:]
		}
		callOff()
		before := wallClock()
		if isHolding {
			_ = sleep(done, renewalsLook)
		} else {
			select {
			case <-w.attempts.renew:
			case <-done.Done():
			}
		}
		if done.Err() != nil {
			return
		}
		stoodStill = isHolding && wallClock().Sub(before) > stillLeast
	}
}

func overOf(due []*Attempt) []*Attempt {
	over := []*Attempt{}
	for _, attempt := range due {
		if !attempt.IsHeld() {
			over = append(over, attempt)
		}
	}
	return over
}

// giveUp ends attempts whose leases were over when the process woke, because the server does not say whether they are held.
func (w *working) giveUp(attempts []*Attempt) {
	for _, attempt := range attempts {
		if !attempt.IsHeld() {
			w.stop(attempt, leaseLost, true)
		}
	}
}

func (w *working) renewThem(done context.Context, due []*Attempt) {
	turn := turn{}
	for _, attempt := range due {
		turn.Renewals = append(turn.Renewals, w.renewalOf(attempt))
	}
	err := w.takeTurn(done, turn, heartbeatMost, nil)
	if err == nil {
		return
	}
	for _, attempt := range due {
		attempt.renewSoon()
	}
	var refused *Error
	if errors.As(err, &refused) && refused.Status != 0 {
		w.Log("leases could not be renewed: %v", err)
	}
}

func (w *working) renewalOf(attempt *Attempt) renewal {
	progress, err := attempt.takeProgress(time.Now())
	if err != nil {
		w.Log("task %s: its progress is no JSON: %v", attempt.Task.ID, err)
	}
	return renewal{Lease: attempt.lease, Progress: progress, attempt: attempt, lines: attempt.takeLines()}
}

// takeTurn makes a call, reads what became of the renewals, has the outcomes read, and starts the tasks that it brought.
func (w *working) takeTurn(
	ctx context.Context, turn turn, timeout time.Duration, readOutcomes func(*turnAnswer),
) error {
	// Also with outcomes alone: the store settles the leases of the worker that calls with less work.
	if turn.Max > 0 || len(turn.Outcomes) > 0 {
		turn.WorkerID = w.ID
		turn.Concurrency = w.Concurrency
		turn.Types = w.types
	}
	for _, renewal := range turn.Renewals {
		if taken := renewal.lines; taken != nil {
			turn.Logs = append(turn.Logs, leaseLog{renewal.Lease, taken.texts, taken.skipped})
		}
	}
	answer, err := w.turns.take(ctx, turn, timeout)
	if err != nil {
		for _, renewal := range turn.Renewals {
			if renewal.lines != nil {
				renewal.attempt.returnLines(renewal.lines)
			}
		}
		w.attempts.claimed(turn.Max, nil)
		return err
	}
	w.clock.answered(answer.now)
	for index, renewal := range turn.Renewals {
		w.renewed(renewal.attempt, answer.Renewals[index])
	}
	brought := make([]*Attempt, 0, len(answer.Leases))
	for _, lease := range answer.Leases {
		brought = append(brought, w.attemptOf(lease))
	}
	// Before the outcomes are read: a worker that stops must not seem to hold nothing in between.
	started := w.attempts.claimed(turn.Max, brought)
	if readOutcomes != nil {
		readOutcomes(answer)
	}
	for _, attempt := range started {
		go w.run(attempt)
	}
	return nil
}

// leave takes the worker off the list. A server that cannot do so forgets it a minute later.
func (w *working) leave() {
	turn := turn{WorkerID: w.ID, Types: w.types, Leaving: true}
	_, _ = w.turns.take(context.Background(), turn, leaveMost)
}

func (w *working) renewed(attempt *Attempt, answer renewed) {
	if answer.Problem != nil && answer.Problem.Status == http.StatusGone {
		w.stop(attempt, leaseLost, true)
		return
	}
	if answer.Problem != nil {
		w.Log("task %s: its progress or its log was refused: %v", attempt.Task.ID, answer.Problem)
	}
	attempt.renewed(w.clock.local(answer.ExpiresAt))
	if answer.CancelRequested {
		w.stop(attempt, "the task was canceled", false)
	}
}

func (w *working) attemptOf(lease lease) *Attempt {
	expiresAt := w.clock.local(lease.ExpiresAt)
	left := expiresAt.Sub(wallClock())
	interval := left / 3
	if interval < heartbeatLeast {
		interval = heartbeatLeast
	}
	if interval > heartbeatMost {
		interval = heartbeatMost
	}
	// Not the worker's context: at shutdown a handler may finish.
	ctx, cancel := context.WithCancel(context.Background())
	return &Attempt{
		Task: lease.Task, Predecessors: lease.Predecessors,
		client: w.Client, lease: lease.Lease, interval: interval, ctx: ctx, cancel: cancel,
		renewAt: time.Now().Add(interval), heldUntil: time.Now().Add(left), expiresAt: expiresAt, wasHeld: left > 0,
	}
}

// run runs an attempt, and after it those that wait.
func (w *working) run(attempt *Attempt) {
	began := time.Now()
	defer func() {
		if attempt == nil {
			return
		}
		outcome := w.outcome(attempt, nil, errGoexit)
		if next := w.attempts.finish(attempt, outcome, time.Since(began)); next != nil {
			go w.run(next)
		}
	}()
	for attempt != nil {
		began = time.Now()
		outcome := w.outcomeOf(attempt)
		attempt = w.attempts.finish(attempt, outcome, time.Since(began))
	}
}

var errGoexit = errors.New("the handler has ended its goroutine, as runtime.Goexit does")

// outcomeOf runs the handler.
func (w *working) outcomeOf(attempt *Attempt) *report {
	defer attempt.cancel()
	result, err := w.handle(attempt.ctx, attempt)
	return w.outcome(attempt, result, err)
}

// outcome is what to report of a handler that has ended; nil if the lease is lost.
func (w *working) outcome(attempt *Attempt, result json.RawMessage, err error) *report {
	why, isLost := attempt.fate()
	switch {
	case isLost:
		return nil
	case err == nil:
		return attempt.success(result)
	case why != "":
		err = errors.New(why)
	}
	outcome := attempt.failure(err)
	verb := "failed"
	if outcome.Hold != nil {
		verb = "holds its type"
	}
	task := attempt.Task
	w.Log("attempt %d of task %s of type %s %s: %s", attempt.Number(), task.ID, task.Type, verb, *outcome.Error)
	return outcome
}

// handle runs the handler; its panic is an error like any other.
func (w *working) handle(ctx context.Context, attempt *Attempt) (result json.RawMessage, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
		}
	}()
	value, err := w.Handlers[attempt.Task.Type](ctx, attempt)
	if err != nil {
		return nil, err
	}
	if result, err = json.Marshal(value); err != nil {
		return nil, DoNotRetry(fmt.Errorf("the result is no JSON: %w", err))
	}
	return result, nil
}

func (w *working) stop(attempt *Attempt, why string, isLost bool) {
	if attempt.stop(why, isLost) {
		w.Log("task %s is told to stop: %s", attempt.Task.ID, why)
	}
}

func pauseAfter(refused *Error, delay time.Duration) time.Duration {
	if refused != nil && refused.RetryAfter > 0 {
		return refused.RetryAfter
	}
	return shaken(delay)
}
