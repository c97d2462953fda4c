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
	// Predecessors are the tasks that this one has waited for, in the order of its After, with what they came to.
	Predecessors []Predecessor

	client    *Client
	lease     string
	heartbeat time.Duration
	cancel    context.CancelFunc
	// Says to the heartbeats that there is progress to send.
	reported chan struct{}

	mutex    sync.Mutex
	progress any
	why      string
	isLost   bool
}

// Number is 1 for the first attempt.
func (a *Attempt) Number() int { return a.Task.Attempts + 1 }

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
	select {
	case a.reported <- struct{}{}:
	default:
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

// takeProgress gives what was reported since it was last taken.
func (a *Attempt) takeProgress() any {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	value := a.progress
	a.progress = nil
	select {
	case <-a.reported:
	default:
	}
	return value
}

// stop ends the handler's context. With isLost its outcome counts no more and is told to nobody. It says whether this
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

// words is the text of an error, also of one whose Error method panics, as that of a nil pointer does.
func words(err error) (text string) {
	defer func() {
		if thrown := recover(); thrown != nil {
			text = fmt.Sprintf("%T, whose text cannot be read: %v", err, thrown)
		}
	}()
	return err.Error()
}

// failure is the body of a call that fails a lease.
func failure(err error) map[string]any {
	text := words(err)
	if len(text) > errorBytesMax {
		text = text[:errorBytesMax]
	}
	body := map[string]any{"error": text}
	var final doNotRetry
	var later retryAfter
	switch {
	case errors.As(err, &final):
		body["retry"] = false
	case errors.As(err, &later):
		switch delay := later.delay; {
		case delay < -delayMost || delay > delayMost:
			note := fmt.Sprintf("(the delay %v is not valid, use at most 366 days: the type's back-off applies) ", delay)
			body["error"] = note + text
		case delay < 0:
			body["delay"] = 0
		default:
			body["delay"] = delay.Seconds()
		}
	}
	return body
}

// plainly is the same failure without what a server may have refused, with the reason.
func plainly(body map[string]any, refusal error) map[string]any {
	text := fmt.Sprintf("the outcome was refused: %v; %v", refusal, body["error"])
	if len(text) > errorBytesMax {
		text = text[:errorBytesMax]
	}
	plain := map[string]any{"error": text}
	if retry, isSaid := body["retry"]; isSaid {
		plain["retry"] = retry
	}
	return plain
}
