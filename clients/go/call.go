package xqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	callTimeout   = 30 * time.Second
	backoffFirst  = 100 * time.Millisecond
	backoffMost   = 5 * time.Second
	jitter        = 0.2
	answerMaxSize = 64 << 20
)

// call is one call of the HTTP API: its answer is read into answer, unless that is nil.
type call struct {
	method, path string
	body, answer any
}

// repeat makes a call, again and again while the server is away or full, as far as that is safe.
func (c *Client) repeat(ctx context.Context, call call, repeatable bool, patience time.Duration) error {
	return repeated(ctx, repeatable, patience, func() error {
		_, err := c.exchange(ctx, call, repeatable, callTimeout)
		return err
	})
}

func repeated(ctx context.Context, repeatable bool, patience time.Duration, try func() error) error {
	giveUpAt := time.Now().Add(patience)
	for delay := backoffFirst; ; delay = longer(delay, backoffMost) {
		err := try()
		var refused *Error
		if err == nil || !errors.As(err, &refused) || !refused.mayRepeat(repeatable) {
			return err
		}
		wait := shaken(delay)
		if refused.RetryAfter > 0 { // Later than told, so that not all return at once.
			wait = 2*refused.RetryAfter - shaken(refused.RetryAfter)
		}
		if time.Now().Add(wait).After(giveUpAt) {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// exchange makes a call once. If the server closes a kept connection before it answers, a repeatable call is sent again
// at once on another one.
func (c *Client) exchange(
	ctx context.Context, call call, repeatable bool, timeout time.Duration,
) (http.Header, error) {
	return c.exchangeWith(ctx, call, repeatable, timeout, nil)
}

func (c *Client) exchangeWith(
	ctx context.Context, call call, repeatable bool, timeout time.Duration, more http.Header,
) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := c.send(ctx, call, repeatable, more)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := contentOf(response)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= 300 { // Also what is no answer of XQueue: a redirect, a proxy's error page.
		return nil, refusal(response, content)
	}
	if call.answer == nil || len(bytes.TrimSpace(content)) == 0 { // No task ended while the call waited.
		return response.Header, nil
	}
	if err := json.Unmarshal(content, call.answer); err != nil {
		detail := fmt.Sprintf("%s did not answer as XQueue does: %v", c.server, err)
		return nil, &Error{Status: response.StatusCode, Code: "internal", Detail: detail, cause: err}
	}
	return response.Header, nil
}

// contentOf reads an answer. Of one that says its length, nothing is copied again and again as the buffer grows.
func contentOf(response *http.Response) ([]byte, error) {
	var content bytes.Buffer
	if length := response.ContentLength; length > 0 && length <= answerMaxSize {
		content.Grow(int(length) + bytes.MinRead)
	}
	_, err := content.ReadFrom(io.LimitReader(response.Body, answerMaxSize))
	return content.Bytes(), err
}

// send makes a call and gives its answer to be read.
func (c *Client) send(ctx context.Context, call call, repeatable bool, more http.Header) (*http.Response, error) {
	var body io.Reader
	if call.body != nil {
		text, err := json.Marshal(call.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, call.method, c.server+"/api/v1"+call.path, body)
	if err != nil {
		return nil, fmt.Errorf("the server must be a URL as http://127.0.0.1:8080: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, values := range more {
		request.Header[name] = values
	}
	if repeatable {
		// An empty list tells the transport that it may repeat the request, and is not sent as a header.
		request.Header["Idempotency-Key"] = []string{}
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return response, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var network *net.OpError
	isSent := !errors.As(err, &network) || network.Op != "dial"
	detail := fmt.Sprintf("%s cannot be reached (%v): check that `xqueue serve` runs there", c.server, err)
	return &Error{Code: "engine_unavailable", Detail: detail, isSent: isSent, cause: err}
}

func refusal(response *http.Response, content []byte) *Error {
	refused := &Error{}
	// An answer that is no problem+json is described by its status alone.
	_ = json.Unmarshal(content, refused)
	refused.Status = response.StatusCode
	refused.isSent = true
	if refused.Detail == "" {
		refused.Detail = "the server answered " + response.Status
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refused.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refused
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func longer(delay, most time.Duration) time.Duration {
	if 2*delay > most {
		return most
	}
	return 2 * delay
}

func shaken(delay time.Duration) time.Duration {
	return time.Duration(float64(delay) * (1 - jitter*rand.Float64()))
}
