package xqueue

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// turn is one call of a worker: it reports outcomes, renews leases and claims tasks. With nothing to report it waits
// for tasks.
type turn struct {
	Types    []string `json:"types,omitempty"`
	WorkerID string   `json:"worker_id,omitempty"`
	// How many tasks the worker runs at once, for the list of workers.
	Concurrency int       `json:"concurrency,omitempty"`
	Max         int       `json:"max,omitempty"`
	Wait        float64   `json:"wait,omitempty"`
	Outcomes    []*report `json:"outcomes,omitempty"`
	Renewals    []renewal `json:"renewals,omitempty"`
	// The lines of the renewals.
	Logs []leaseLog `json:"logs,omitempty"`
	// The worker stops, and is no longer listed.
	Leaving bool `json:"leaving,omitempty"`
}

type leaseLog struct {
	Lease   string            `json:"lease"`
	Lines   []json.RawMessage `json:"lines"`
	Skipped int               `json:"skipped,omitempty"`
}

type renewal struct {
	Lease    string          `json:"lease"`
	Progress json.RawMessage `json:"progress,omitempty"`

	attempt *Attempt
	lines   *lines // nil: none
}

type turnAnswer struct {
	Outcomes []struct {
		Problem *Error `json:"problem"`
	} `json:"outcomes"`
	Renewals []renewed `json:"renewals"`
	Leases   []lease   `json:"leases"`

	// The server's clock at the answer; zero if it is not known.
	now time.Time
}

type renewed struct {
	ExpiresAt       time.Time `json:"expires_at"`
	CancelRequested bool      `json:"cancel_requested"`
	Problem         *Error    `json:"problem"`
}

type lease struct {
	Lease     string    `json:"lease"`
	ExpiresAt time.Time `json:"expires_at"`
	Task      *Task     `json:"task"`

	Predecessors []Predecessor `json:"predecessors"`
}

// turns makes the calls of a worker. A server from before there was POST /tasks/turn gets a call for each step instead.
type turns struct {
	client *Client
	// isOld says that the server has no such call.
	isOld atomic.Bool
}

func (t *turns) take(ctx context.Context, turn turn, timeout time.Duration) (*turnAnswer, error) {
	if t.isOld.Load() {
		return t.stepByStep(ctx, turn, timeout)
	}
	answer := new(turnAnswer)
	header, err := t.client.exchange(ctx, call{"POST", "/tasks/turn", turn, answer}, true, timeout)
	var refused *Error
	if errors.As(err, &refused) {
		if refused.Status == http.StatusNotFound || refused.Status == http.StatusMethodNotAllowed {
			t.isOld.Store(true)
			return t.stepByStep(ctx, turn, timeout)
		}
		if !refused.isPassing() && len(turn.Outcomes)+len(turn.Renewals) > 0 {
			// One of them cannot be read, or they are too large together: each gets an answer of its own.
			return t.stepByStep(ctx, turn, timeout)
		}
	}
	if err == nil && (len(answer.Outcomes) != len(turn.Outcomes) || len(answer.Renewals) != len(turn.Renewals)) {
		err = &Error{Status: http.StatusBadGateway, Code: "internal", Detail: "the answer lacks items of the call"}
	}
	if err != nil {
		return nil, err
	}
	answer.now = clockOf(header)
	return answer, nil
}

// stepByStep does the same in single calls. It fails with the first error that passes, like a turn.
func (t *turns) stepByStep(ctx context.Context, turn turn, timeout time.Duration) (*turnAnswer, error) {
	answer := &turnAnswer{}
	for _, renewal := range turn.Renewals {
		var kept renewed
		var texts []json.RawMessage
		if renewal.lines != nil {
			texts = renewal.lines.texts
		}
		header, err := t.ofLease(ctx, renewal.Lease, "heartbeat", struct {
			Progress json.RawMessage   `json:"progress,omitempty"`
			Logs     []json.RawMessage `json:"logs,omitempty"`
		}{renewal.Progress, texts}, &kept, timeout)
		var refused *Error
		if errors.As(err, &refused) && !refused.isPassing() {
			if refused.Status != http.StatusGone && (renewal.Progress != nil || renewal.lines != nil) {
				// Invalid progress must not cost the lease, nor lines that an older server does not take.
				_, err = t.ofLease(ctx, renewal.Lease, "heartbeat", struct{}{}, &kept, timeout)
			} else {
				err = nil
			}
			kept.Problem = refused
		}
		if err != nil {
			return nil, err
		}
		if header != nil {
			answer.now = clockOf(header)
		}
		answer.Renewals = append(answer.Renewals, kept)
	}
	for _, outcome := range turn.Outcomes {
		err := t.settle(ctx, outcome, timeout)
		var refused *Error
		if err != nil && (!errors.As(err, &refused) || refused.isPassing()) {
			return nil, err
		}
		answer.Outcomes = append(answer.Outcomes, struct {
			Problem *Error `json:"problem"`
		}{refused})
	}
	if turn.Max == 0 || len(turn.Outcomes)+len(turn.Renewals) > 0 {
		return answer, nil
	}
	header, err := t.client.exchange(ctx, call{"POST", "/tasks/consume", turn, answer}, true, timeout)
	answer.now = clockOf(header)
	return answer, err
}

func (t *turns) settle(ctx context.Context, outcome *report, timeout time.Duration) error {
	if outcome.Release {
		if t.isOld.Load() {
			return nil // Its lease ends by itself.
		}
		_, err := t.client.exchange(ctx, call{"POST", "/tasks/turn", turn{Outcomes: []*report{outcome}}, nil}, true, timeout)
		return err
	}
	verb := "complete"
	if outcome.Error != nil {
		verb = "fail"
	}
	body := *outcome
	_, err := t.ofLease(ctx, outcome.Lease, verb, (*withoutLease)(&body), nil, timeout)
	return err
}

func (t *turns) ofLease(
	ctx context.Context, lease, verb string, body, answer any, timeout time.Duration,
) (http.Header, error) {
	path := "/leases/" + url.PathEscape(lease) + "/" + verb
	return t.client.exchange(ctx, call{"POST", path, body, answer}, true, timeout)
}

// withoutLease is the body of a single call, whose lease is in its path.
type withoutLease report

func (r *withoutLease) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Result json.RawMessage `json:"result,omitempty"`
		Error  *string         `json:"error,omitempty"`
		Retry  *bool           `json:"retry,omitempty"`
		Delay  *float64        `json:"delay,omitempty"`
		Hold   *float64        `json:"hold,omitempty"`
		Limit  string          `json:"limit,omitempty"`
		Usage  json.RawMessage `json:"usage,omitempty"`
	}{r.Result, r.Error, r.Retry, r.Delay, r.Hold, r.Limit, r.Usage})
}

func clockOf(header http.Header) time.Time {
	now, _ := http.ParseTime(header.Get("Date"))
	return now
}
