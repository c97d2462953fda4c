package xqueue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The server sends a sign of life every 15 s.
const streamSilenceMost = 20 * time.Second

// Wait waits for the end of a task, in any final status: read its Status. Of a task that its type does not keep, it
// returns what the event of the end says, if the task had not ended before.
func (c *Client) Wait(ctx context.Context, id string) (*Task, error) {
	var seen *Task
	var end []byte
	for {
		task, err := c.Get(ctx, id)
		if seen != nil && isGone(err) {
			return seen.endedBy(end)
		}
		if err != nil || task.Status.IsFinal() {
			return task, err
		}
		seen = task
		end, err = c.waitForEnd(ctx, id)
		if err == nil {
			continue
		}
		var lost *Error
		if !errors.As(err, &lost) || !lost.mayRepeat(true) {
			return nil, err
		}
		// Without a stream it looks from time to time.
		pause := lost.RetryAfter
		if pause == 0 {
			pause = backoffFirst
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func isGone(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Code == "not_found"
}

// endedBy returns the task with the end that an event says.
func (t Task) endedBy(event []byte) (*Task, error) {
	if event == nil {
		detail := fmt.Sprintf("task %s of type %s has ended and is no longer kept, so its end is not known: "+
			"set a longer retention for its type", t.ID, t.Type)
		return nil, &Error{Status: http.StatusNotFound, Code: "not_found", Detail: detail}
	}
	var at struct{ Timestamp time.Time }
	t.Error = "" // Null in an event leaves it.
	if err := errors.Join(json.Unmarshal(event, &t), json.Unmarshal(event, &at)); err != nil {
		return nil, err
	}
	t.UpdatedAt, t.CompletedAt = at.Timestamp, &at.Timestamp
	return &t, nil
}

// waitForEnd returns the event of the end of a task, or nil when the task is to be read again: it has ended, or its event
// stream broke or fell silent.
func (c *Client) waitForEnd(ctx context.Context, id string) ([]byte, error) {
	streaming, leave := context.WithCancel(ctx)
	defer leave()
	silence := time.AfterFunc(streamSilenceMost, leave)
	defer silence.Stop()
	response, err := c.send(streaming, call{"GET", "/events?task_id=" + url.QueryEscape(id), nil, nil}, true, nil)
	if err != nil {
		if streaming.Err() != nil {
			return nil, ctx.Err() // It was silent from the start.
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		content, _ := io.ReadAll(io.LimitReader(response.Body, answerMaxSize))
		return nil, refusal(response, content)
	}
	// Read once more when the stream is open, so that no end is missed.
	if task, err := c.Get(ctx, id); isGone(err) {
		return nil, nil
	} else if err != nil || task.Status.IsFinal() {
		return nil, err
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, ctx.Err()
		}
		silence.Reset(streamSilenceMost)
		var change struct {
			Status Status `json:"status"`
		}
		data := strings.TrimPrefix(line, "data: ")
		if data != line && json.Unmarshal([]byte(data), &change) == nil && change.Status.IsFinal() {
			return []byte(data), nil
		}
	}
}
