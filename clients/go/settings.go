package xqueue

// HandlerSettings are limits and defaults of a type, as POST /api/v1/handlers takes them. What is left out has its
// default. Durations are texts such as "90s" or "1h30m".
type HandlerSettings struct {
	// Concurrency is how many of its tasks run at once, over all workers; 0: no limit.
	Concurrency int `json:"concurrency,omitempty"`
	// GroupConcurrency is the same for each group of the type.
	GroupConcurrency int `json:"group_concurrency,omitempty"`
	// GroupTurns is what groups share fairly: "tasks" (default) or running "time".
	GroupTurns string `json:"group_turns,omitempty"`
	// Rate is how many start in any window, over all workers.
	Rate *Rate `json:"rate,omitempty"`
	// Uses are units of named limits that each task uses while it runs.
	Uses map[string]int `json:"uses,omitempty"`
	// Limits are named limits that it declares, which any type can use.
	Limits map[string]NamedLimit `json:"limits,omitempty"`
	// MaxRetry is how many retries follow the first attempt; nil: 3.
	MaxRetry *int `json:"max_retry,omitempty"`
	// QueueTimeout is how long a task may wait for its first start; "": 10 minutes, "0s": no limit.
	QueueTimeout string `json:"queue_timeout,omitempty"`
	// ProcessTimeout is how long an attempt may take; "": 5 minutes, "0s": no limit.
	ProcessTimeout string `json:"process_timeout,omitempty"`
	// Retry is the back-off; nil: 1 s doubling up to 5 min, with a random fifth.
	Retry *Backoff `json:"retry,omitempty"`
	// Retention is how long tasks are kept after they have ended, by their final status.
	Retention map[string]string `json:"retention,omitempty"`
}

// Rate is at most Max starts in any window of the length Per, such as "1m".
type Rate struct {
	Max int    `json:"max"`
	Per string `json:"per"`
}

// NamedLimit is a limit that tasks of several types can use; 0 and nil: none.
type NamedLimit struct {
	Max  int   `json:"max,omitempty"`
	Rate *Rate `json:"rate,omitempty"`
}

// Backoff is the delay before retries: Base, then longer by Factor each time, up to Cap. A share of it, Jitter, is
// random.
type Backoff struct {
	Base   string   `json:"base,omitempty"`
	Factor float64  `json:"factor,omitempty"`
	Cap    string   `json:"cap,omitempty"`
	Jitter *float64 `json:"jitter,omitempty"`
}

type declaredHandler struct {
	Type string `json:"type"`
	HandlerSettings
}
