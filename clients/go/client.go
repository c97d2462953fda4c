// Package xqueue submits tasks to XQueue and runs them: [Client] for the one, [Worker] for the other.
package xqueue

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	patienceDefault = 10 * time.Second
	idleConnsMost   = 10_000
	// Servers and proxies close idle connections after 60 s or more. A call on a connection that is being closed may
	// be lost, so the client closes it first.
	idleTimeout = 50 * time.Second
)

// Client is a server of XQueue, safe for concurrent use. Every call fails with an [*Error]: what the server refused,
// or, with Status 0, that it cannot be reached; or with the error of its context.
type Client struct {
	// Patience is how long a call is repeated while the server is away or full, where that cannot do its work twice: a
	// submission is repeated when it has an idempotency key, or was not sent at all. Default 10 s, negative: never.
	Patience time.Duration

	server string
	key    string
	http   *http.Client

	submissions *submissions
}

// NewClient makes a client. An empty server is XQUEUE_SERVER or http://127.0.0.1:8080; an empty key (an API key, where
// the server wants one) is XQUEUE_KEY.
func NewClient(server, key string) *Client {
	client := &Client{
		server: strings.TrimRight(first(server, os.Getenv("XQUEUE_SERVER"), "http://127.0.0.1:8080"), "/"),
		key:    first(key, os.Getenv("XQUEUE_KEY")),
		http: &http.Client{
			Transport: keepingConnections(),
			// The client does not send its key to the target of a redirect.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	client.submissions = &submissions{
		client: client, waiting: map[string][]*submission{}, underWay: map[string]int{},
	}
	return client
}

// keepingConnections keeps every connection that the client has used, because Go's default keeps two per host: each
// further concurrent call would open and close a connection of its own.
func keepingConnections() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0 // No limit: there are as many as there were concurrent calls.
	transport.MaxIdleConnsPerHost = idleConnsMost
	transport.IdleConnTimeout = idleTimeout
	return transport
}

// Submit submits a task, which is durable when this returns. Submissions that are called while another one is under way
// share a call; each gets its own task or error.
func (c *Client) Submit(ctx context.Context, task NewTask) (*Task, error) {
	var accepted *Task
	err := repeated(ctx, task.IdempotencyKey != "", c.patience(), func() (err error) {
		accepted, err = c.submissions.submit(ctx, task)
		return err
	})
	return answered(accepted, err)
}

// SubmitMany submits up to 10,000 tasks, all or none, and gives their ids in order.
func (c *Client) SubmitMany(ctx context.Context, tasks []NewTask) ([]string, error) {
	repeatable := true
	for _, task := range tasks {
		repeatable = repeatable && task.IdempotencyKey != ""
	}
	body := struct {
		Tasks []NewTask `json:"tasks"`
	}{tasks}
	var answer struct {
		Tasks []struct {
			ID string `json:"id"`
		} `json:"tasks"`
	}
	if err := c.repeat(ctx, call{"POST", "/tasks/batch", body, &answer}, repeatable, c.patience()); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(answer.Tasks))
	for _, task := range answer.Tasks {
		ids = append(ids, task.ID)
	}
	return ids, nil
}

// Get reads a task.
func (c *Client) Get(ctx context.Context, id string) (*Task, error) {
	task := new(Task)
	return answered(task, c.repeat(ctx, call{"GET", pathOf(id), nil, task}, true, c.patience()))
}

// Cancel cancels a task. A running one is asked to stop, and may still be "processing" in the answer.
func (c *Client) Cancel(ctx context.Context, id string) (*Task, error) {
	task := new(Task)
	return answered(task, c.repeat(ctx, call{"DELETE", pathOf(id), nil, task}, false, c.patience()))
}

// Purge erases a finished task: payload, result, error, tags, idempotency key, and what events hold of it.
func (c *Client) Purge(ctx context.Context, id string) error {
	return c.repeat(ctx, call{"POST", pathOf(id) + "/purge", nil, nil}, false, c.patience())
}

// Call makes any call of the HTTP API, as in Call(ctx, "GET", "/stats", nil, &stats). It is repeated while the server
// is away if it is a GET.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	return c.repeat(ctx, call{method, path, body, answer}, method == "GET", c.patience())
}

func (c *Client) patience() time.Duration {
	if c.Patience == 0 {
		return patienceDefault
	}
	return c.Patience
}

func pathOf(id string) string {
	return "/tasks/" + url.PathEscape(id)
}

func answered(task *Task, err error) (*Task, error) {
	if err != nil {
		return nil, err
	}
	return task, nil
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
