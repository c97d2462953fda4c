package xqueue

import "time"

// Error is what the server refused: an RFC 9457 problem. Its Code is stable ("unknown_type", "queue_full",
// "lease_lost", …), its Detail says how to fix it. With Status 0 no answer came ("engine_unavailable"): then the call
// may have been carried out.
type Error struct {
	Status          int          `json:"status"`
	Code            string       `json:"code"`
	Detail          string       `json:"detail"`
	Errors          []FieldError `json:"errors"`
	RegisteredTypes []string     `json:"registered_types"`
	// RetryAfter is how soon the server is worth asking again, where it says so.
	RetryAfter time.Duration `json:"-"`

	isSent bool
	cause  error
}

// FieldError names a field that is wrong, as in "tasks[3].priority".
type FieldError struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Detail }

func (e *Error) Unwrap() error { return e.cause }

// mayRepeat says whether the same call may succeed later without having been carried out twice.
func (e *Error) mayRepeat(repeatable bool) bool {
	if e.Code == "overloaded" { // The server has too many calls: nothing was done.
		return true
	}
	switch e.Status {
	case 429: // The queue is full, or the key's rate is used up: nothing was done.
		return true
	case 0:
		return repeatable || !e.isSent
	case 502, 503, 504:
		return repeatable
	}
	return false
}

// isPassing says whether a worker should go on asking.
func (e *Error) isPassing() bool {
	return e.Status == 0 || e.Status == 429 || e.Status >= 500
}
