package xqueue

import (
	"encoding/json"
	"time"
)

// NewTask is a task to submit. What is left out has the default of its handler, or of XQueue.
type NewTask struct {
	Type string
	// Payload is anything that encoding/json takes; nil is {}.
	Payload any
	// Priority is 0 to 9, 0 to 9; tasks with a higher priority run first.
	Priority int
	// Delay is how long it may not start yet; not together with RunAt.
	Delay time.Duration
	RunAt time.Time
	// MaxRetry is the number of retries after the first attempt; default 3. See [Ptr].
	MaxRetry *int
	// QueueTimeout is how long it may wait for its first start; default 10 minutes, 0 for no limit.
	QueueTimeout *time.Duration
	// ProcessTimeout is how long one attempt may run; default 5 minutes, 0 for no limit.
	ProcessTimeout *time.Duration
	Tags           map[string]string
	// Group is a tenant, account or customer; the groups of a type take turns.
	Group string
	// Uses are the units of named limits that it uses while it runs; default what its handler declares.
	Uses map[string]int
	// After are tasks to wait for, by their ids; see also AfterPlaces.
	After []string
	// AfterPlaces are more of them, by their places among those of the same SubmitMany, from 0: earlier ones only.
	AfterPlaces []int
	// OnFailure says what becomes of it when one of those ends without success; default CancelToo.
	OnFailure OnFailure
	// Batch is a name that tasks are counted, listed, canceled and retried under together.
	Batch string
	// IdempotencyKey: the same key with the same task is submitted once, however often it is called.
	IdempotencyKey string
}

// Ptr gives a pointer to a value, for fields in which zero and nothing differ: MaxRetry: xqueue.Ptr(0).
func Ptr[T any](value T) *T { return &value }

func (t NewTask) MarshalJSON() ([]byte, error) {
	input := struct {
		Type           string            `json:"type"`
		Payload        any               `json:"payload,omitempty"`
		Priority       int               `json:"priority,omitempty"`
		Delay          float64           `json:"delay,omitempty"`
		RunAt          string            `json:"run_at,omitempty"`
		MaxRetry       *int              `json:"max_retry,omitempty"`
		QueueTimeout   *float64          `json:"queue_timeout,omitempty"`
		ProcessTimeout *float64          `json:"process_timeout,omitempty"`
		Tags           map[string]string `json:"tags,omitempty"`
		Group          string            `json:"group,omitempty"`
		Uses           map[string]int    `json:"uses,omitempty"`
		After          []any             `json:"after,omitempty"`
		OnFailure      OnFailure         `json:"on_failure,omitempty"`
		Batch          string            `json:"batch,omitempty"`
		IdempotencyKey string            `json:"idempotency_key,omitempty"`
	}{
		Type: t.Type, Payload: t.Payload, Priority: t.Priority, Delay: t.Delay.Seconds(), MaxRetry: t.MaxRetry,
		QueueTimeout: seconds(t.QueueTimeout), ProcessTimeout: seconds(t.ProcessTimeout),
		Tags: t.Tags, Group: t.Group, Uses: t.Uses, OnFailure: t.OnFailure, Batch: t.Batch, IdempotencyKey: t.IdempotencyKey,
	}
	for _, id := range t.After {
		input.After = append(input.After, id)
	}
	for _, place := range t.AfterPlaces {
		input.After = append(input.After, place)
	}
	if !t.RunAt.IsZero() {
		input.RunAt = t.RunAt.UTC().Format(time.RFC3339Nano)
	}
	return json.Marshal(input)
}

// OnFailure is what becomes of a task when one that it waits for ends without success.
type OnFailure string

const (
	// CancelToo cancels it, and what waits for it.
	CancelToo OnFailure = "cancel"
	// RunAnyway runs it once all have ended, however.
	RunAnyway OnFailure = "run"
	// WaitForRetry goes on waiting until that one was retried and succeeds.
	WaitForRetry OnFailure = "wait"
)

// Status is one of the six that a task can have.
type Status string

const (
	Pending    Status = "pending"
	Processing Status = "processing"
	Success    Status = "success"
	Failed     Status = "failed"
	Canceled   Status = "canceled"
	TimedOut   Status = "timeout"
)

// IsFinal says whether the task has ended.
func (s Status) IsFinal() bool {
	return s == Success || s == Failed || s == Canceled || s == TimedOut
}

// Task is the present state of a task. Payload, Progress and Result are JSON; time-outs are seconds.
type Task struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Payload  json.RawMessage `json:"payload"`
	Priority int             `json:"priority"`
	Status   Status          `json:"status"`
	// Attempts are runs that ended by themselves or by their time-out.
	Attempts int `json:"attempts"`
	// Deliveries are the times it was handed to a worker: a lost worker adds a delivery, not an attempt.
	Deliveries     int               `json:"deliveries"`
	MaxRetry       int               `json:"max_retry"`
	QueueTimeout   float64           `json:"queue_timeout"`
	ProcessTimeout float64           `json:"process_timeout"`
	TimeoutReason  string            `json:"timeout_reason"`
	CreatedAt      time.Time         `json:"created_at"`
	RunAt          time.Time         `json:"run_at"`
	StartedAt      *time.Time        `json:"started_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	CompletedAt    *time.Time        `json:"completed_at"`
	WorkerID       string            `json:"worker_id"`
	Progress       json.RawMessage   `json:"progress"`
	Result         json.RawMessage   `json:"result"`
	Error          string            `json:"error"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
	Group          string            `json:"group"`
	Uses           map[string]int    `json:"uses"`
	// After are the tasks that it waits for, or has waited for.
	After     []string  `json:"after"`
	OnFailure OnFailure `json:"on_failure"`
	Batch     string    `json:"batch"`
}

// Predecessor is a task that another one has waited for, as it ended.
type Predecessor struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	// Status is empty when it is not known any more.
	Status Status          `json:"status"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
	// Omitted says that Result and Error are left out because all together have more than 1 MiB: Attempt.Predecessor
	// reads them.
	Omitted bool `json:"omitted"`
}

func seconds(duration *time.Duration) *float64 {
	if duration == nil {
		return nil
	}
	return Ptr(duration.Seconds())
}
