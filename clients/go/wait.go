package xqueue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The server sends a sign of life every 15 s.
const streamSilenceMost = 20 * time.Second

// Wait waits for the end of a task, in any final status: read its Status.
func (c *Client) Wait(ctx context.Context, id string) (*Task, error) {
	for {
		task, err := c.Get(ctx, id)
		if err != nil || task.Status.IsFinal() {
			return task, err
		}
		err = c.waitForEnd(ctx, id)
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

// waitForEnd returns when the task has ended, or its event stream broke or fell silent.
func (c *Client) waitForEnd(ctx context.Context, id string) error {
	streaming, leave := context.WithCancel(ctx)
	defer leave()
	silence := time.AfterFunc(streamSilenceMost, leave)
	defer silence.Stop()
	response, err := c.send(streaming, call{"GET", "/events?task_id=" + url.QueryEscape(id), nil, nil}, true, nil)
	if err != nil {
		if streaming.Err() != nil {
			return ctx.Err() // It was silent from the start.
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		content, _ := io.ReadAll(io.LimitReader(response.Body, answerMaxSize))
		return refusal(response, content)
	}
	// Read once more when the stream is open, so that no end is missed.
	if task, err := c.Get(ctx, id); err != nil || task.Status.IsFinal() {
		return err
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return ctx.Err()
		}
		silence.Reset(streamSilenceMost)
		var change struct {
			Status Status `json:"status"`
		}
		data := strings.TrimPrefix(line, "data: ")
		if data != line && json.Unmarshal([]byte(data), &change) == nil && change.Status.IsFinal() {
			return nil
		}
	}
}
