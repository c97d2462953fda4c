package xqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// Attempt is one run of a handler: its task, and how to report.
type Attempt struct {
	Task *Task
	// Predecessors are the tasks that this one has waited for, in the order of its After, with their outcomes.
	Predecessors []Predecessor

	client   *Client
	lease    string
	interval time.Duration // between renewals of the lease
	ctx      context.Context
	cancel   context.CancelFunc

	mutex     sync.Mutex
	renewAt   time.Time
	heldUntil time.Time
	expiresAt time.Time // by the wall clock
	wasHeld   bool      // when it came
	progress  any
	lines     *lines
	usage     json.RawMessage
	why       string
	isLost    bool
}

// Number is 1 for the first attempt.
func (a *Attempt) Number() int { return a.Task.Attempts + 1 }

// Fence grows with each hand-out of the task: give it to the systems that you write to, and let them refuse a number that
// is lower than one that they have seen.
func (a *Attempt) Fence() int { return a.Task.Deliveries }

// IsHeld says whether the lease is held by the worker's clock: not as soon as another worker may run the task, as after
// the process stood still for longer than the lease. It makes no call.
func (a *Attempt) IsHeld() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return !a.isLost && wallClock().Before(a.expiresAt)
}

// Payload reads the task's payload into a value, as json.Unmarshal does. What does not fit is not worth a retry, and
// the error says so to the worker.
func (a *Attempt) Payload(into any) error {
	if err := json.Unmarshal(a.Task.Payload, into); err != nil {
		return DoNotRetry(err)
	}
	return nil
}

// Predecessor is one of Predecessors whole: where its result was left out of the lease, it is read from the server.
func (a *Attempt) Predecessor(ctx context.Context, id string) (*Predecessor, error) {
	for index := range a.Predecessors {
		if handed := &a.Predecessors[index]; handed.ID == id && !handed.Omitted {
			return handed, nil
		}
	}
	var read Predecessor
	path := "/leases/" + url.PathEscape(a.lease) + "/predecessors/" + url.PathEscape(id)
	if err := a.client.Call(ctx, "GET", path, nil, &read); err != nil {
		return nil, err
	}
	return &read, nil
}

// Progress tells how far the task is: 0 to 100, or anything that is a JSON object of at most 16 KiB. It is sent soon,
// the last value wins. The value is written as JSON at once, so it may go on changing.
func (a *Attempt) Progress(value any) {
	value = written(value)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.progress = value
	if soon := time.Now().Add(progressPause); soon.Before(a.renewAt) {
		a.renewAt = soon
	}
}

// written is the JSON of a value as it is now; for a value without any, its heartbeat says why.
func written(value any) (text any) {
	defer func() {
		if thrown := recover(); thrown != nil {
			text = unwritable{fmt.Errorf("panic: %v", thrown)}
		}
	}()
	bytes, err := json.Marshal(value)
	if err != nil {
		return unwritable{err}
	}
	return json.RawMessage(bytes)
}

type unwritable struct{ why error }

func (u unwritable) MarshalJSON() ([]byte, error) { return nil, u.why }

// Log writes a line that is kept with the task. Levels are trace, debug, info, warn, error and fatal; any other counts as
// info. The fields are written as JSON at once, so they may go on changing; nil for none.
func (a *Attempt) Log(level, message string, fields map[string]any) {
	line := lineOf(level, message, fields)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.lines == nil {
		a.lines = &lines{}
	}
	a.lines.add(line)
	if soon := time.Now().Add(logPause); soon.Before(a.renewAt) {
		a.renewAt = soon
	}
}

// Usage reports the units of named limits that the attempt has used in fact: it corrects what their rates have counted at
// the start. The latest value counts; it is sent with the outcome.
func (a *Attempt) Usage(units map[string]int) {
	text, err := json.Marshal(units)
	if err != nil {
		return
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.usage = text
}

func (a *Attempt) used() json.RawMessage {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.usage
}

// takeLines returns the lines since the last call, or nil; returnLines puts back lines that could not be sent.
func (a *Attempt) takeLines() *lines {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	taken := a.lines
	a.lines = nil
	return taken
}

func (a *Attempt) returnLines(taken *lines) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if later := a.lines; later != nil {
		for _, line := range later.texts {
			taken.add(line)
		}
		taken.skipped += later.skipped
	}
	a.lines = taken
}

// takeProgress returns the JSON of the progress since the last call, or nil, and plans the next renewal. Progress that is
// not valid JSON is an error.
func (a *Attempt) takeProgress(now time.Time) (json.RawMessage, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	value := a.progress
	a.progress = nil
	a.renewAt = now.Add(a.interval)
	switch value := value.(type) {
	case json.RawMessage:
		return value, nil
	case unwritable:
		return nil, value.why
	}
	return nil, nil
}

// hasNews says whether there is progress or a line to send.
func (a *Attempt) hasNews() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.progress != nil || a.lines != nil
}

// isDue says whether the lease is to be renewed.
func (a *Attempt) isDue(now time.Time) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return !a.isLost && !now.Before(a.renewAt)
}

// renewed notes how long the lease is held, by the clock of this machine; renewSoon that a renewal failed.
func (a *Attempt) renewed(expiresAt time.Time) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.expiresAt = expiresAt
	a.heldUntil = time.Now().Add(expiresAt.Sub(wallClock()))
}

func (a *Attempt) renewSoon() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.renewAt = time.Now().Add(a.interval / 5)
}

// mayStart is false if it was stopped while it waited, or if its lease has ended by the worker's clock. A short lease can
// seem to have ended from the start, because that clock errs by up to a second.
func (a *Attempt) mayStart() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	over := a.expiresAt
	if !a.wasHeld {
		over = over.Add(dateResolution)
	}
	return a.why == "" && wallClock().Before(over)
}

// isSurelyLost says whether the lease ended so long ago that no report for it can count.
func (a *Attempt) isSurelyLost(now time.Time) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return now.After(a.heldUntil.Add(settlePatience))
}

// stop ends the handler's context. With isLost its outcome no longer counts and is not sent. It says whether this
// is news.
func (a *Attempt) stop(why string, isLost bool) bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	isNews := a.why == ""
	if isNews {
		a.why = why
	}
	a.isLost = a.isLost || isLost
	a.cancel()
	return isNews
}

// fate says why it was stopped, if it was, and whether its lease is lost.
func (a *Attempt) fate() (why string, isLost bool) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.why, a.isLost
}

type doNotRetry struct{ error }

func (e doNotRetry) Unwrap() error { return e.error }

// DoNotRetry marks an error: this task cannot succeed, do not try again.
func DoNotRetry(err error) error { return doNotRetry{err} }

type retryAfter struct {
	error
	delay time.Duration
}

func (e retryAfter) Unwrap() error { return e.error }

// RetryAfter marks an error: try again, but not before the delay is over, up to 366 days. It counts as an attempt. A
// longer one is replaced by the back-off of the type, and the task's error says so; one below zero is none.
func RetryAfter(delay time.Duration, err error) error { return retryAfter{err, delay} }

type rateLimited struct {
	error
	hold  time.Duration
	limit string
}

func (e rateLimited) Unwrap() error { return e.error }

// RateLimited marks an error: the service behind the type refuses further calls for some time, as with HTTP 429. No task
// of the type starts before that time has passed, up to 24 hours, in any process. The task runs again then, and no
// attempt counts. A longer time, or one of 0 or less, counts as a failed attempt, and the task's error says so.
func RateLimited(hold time.Duration, err error) error { return rateLimited{err, hold, ""} }

// LimitReached is RateLimited for a named limit that the task uses: no task that uses it starts before the time has passed.
func LimitReached(limit string, hold time.Duration, err error) error {
	return rateLimited{err, hold, limit}
}

// words is the text of an error, also of one whose Error method panics, as that of a nil pointer does.
func words(err error) (text string) {
	defer func() {
		if thrown := recover(); thrown != nil {
			text = fmt.Sprintf("%T, whose text cannot be read: %v", err, thrown)
		}
	}()
	return err.Error()
}

// report is the outcome of an attempt as the API takes it: a result, or an error with its options.
type report struct {
	Lease  string          `json:"lease"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *string         `json:"error,omitempty"`
	Retry  *bool           `json:"retry,omitempty"`
	Delay  *float64        `json:"delay,omitempty"`
	Hold   *float64        `json:"hold,omitempty"`
	Limit  string          `json:"limit,omitempty"`
	Usage  json.RawMessage `json:"usage,omitempty"`
	// The handler has not run.
	Release bool `json:"release,omitempty"`

	attempt *Attempt
	isPlain bool // It has replaced a failure that was refused.
}

func (a *Attempt) success(result json.RawMessage) *report {
	return &report{Lease: a.lease, Result: result, Usage: a.used(), attempt: a}
}

func (a *Attempt) failure(err error) *report {
	text := words(err)
	made := &report{Lease: a.lease, Usage: a.used(), attempt: a}
	var final doNotRetry
	var later retryAfter
	var limited rateLimited
	switch {
	case errors.As(err, &final):
		made.Retry = Ptr(false)
	case errors.As(err, &later):
		switch delay := later.delay; {
		case delay < -delayMost || delay > delayMost:
			text = fmt.Sprintf("(the delay %v is not valid, use at most 366 days: the type's back-off applies) ", delay) + text
		case delay < 0:
			made.Delay = Ptr(0.0)
		default:
			made.Delay = Ptr(delay.Seconds())
		}
	case errors.As(err, &limited):
		made.Limit = limited.limit
		switch hold := limited.hold; {
		case hold <= 0 || hold > holdMost:
			use := "use more than 0 s and at most 24 hours"
			text = fmt.Sprintf("(the hold of %v is not valid, %s: the type's back-off applies) ", hold, use) + text
			made.Limit = ""
		default:
			// The API takes no shorter one.
			made.Hold = Ptr((hold + time.Millisecond - 1).Truncate(time.Millisecond).Seconds())
		}
	}
	made.Error = Ptr(bounded(text))
	return made
}

// instead is the report that replaces one that the server has refused; nil if that was a replacement already.
func (r *report) instead(refusal error) *report {
	switch {
	case r.Release:
		return nil
	case r.Error == nil:
		return r.attempt.failure(DoNotRetry(fmt.Errorf("the result was refused: %w", refusal)))
	case r.isPlain:
		return nil
	}
	text := bounded(fmt.Sprintf("the outcome was refused: %v; %s", refusal, *r.Error))
	return &report{Lease: r.Lease, Error: &text, Retry: r.Retry, attempt: r.attempt, isPlain: true}
}

func bounded(text string) string {
	if len(text) > errorBytesMax {
		return text[:errorBytesMax]
	}
	return text
}
