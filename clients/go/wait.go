package xqueue

import (
	"context"
	"errors"
	"time"
)

// waitMost is how long one call waits; the server allows 60 s.
const waitMost = 50 * time.Second

// Wait waits for the end of a task, in any final status: read its Status. It costs a call every 50 s.
func (c *Client) Wait(ctx context.Context, id string) (*Task, error) {
	body := struct {
		IDs  []string `json:"ids"`
		Wait float64  `json:"wait"`
	}{[]string{id}, waitMost.Seconds()}
	for {
		var task Task
		err := repeated(ctx, true, c.patience(), func() error {
			_, err := c.exchange(ctx, call{"POST", "/tasks/wait", body, &task}, true, waitMost+callTimeout)
			return err
		})
		var refused *Error
		switch {
		case err == nil && task.Status.IsFinal():
			return &task, nil
		case err == nil && task.ID != "":
			return c.Get(ctx, id) // Says that there is no such task.
		case errors.As(err, &refused) && refused.Code == "too_many_calls":
			// Others of its calls wait or have used up the rate of the key; this one waits for longer than a call may.
			err = sleep(ctx, refused.RetryAfter)
		}
		if err != nil {
			return nil, err
		}
	}
}
