// The Go client of XQueue over HTTP, for `npm run bench -- peers`; see ../PROTOCOL.md. XQUEUE_SERVER is the server.
package main

import (
	"context"
	"log"

	"protocol"
	"xqueue"
)

func main() {
	ctx := context.Background()
	client := xqueue.NewClient("", "")
	task := func(payload protocol.Payload) xqueue.NewTask { return xqueue.NewTask{Type: "bench", Payload: payload} }
	protocol.Main(protocol.Contender{
		Submit: func(payload protocol.Payload) error {
			_, err := client.Submit(ctx, task(payload))
			return err
		},
		SubmitMany: func(payloads []protocol.Payload) error {
			tasks := make([]xqueue.NewTask, 0, len(payloads))
			for _, payload := range payloads {
				tasks = append(tasks, task(payload))
			}
			_, err := client.SubmitMany(ctx, tasks)
			return err
		},
		Work: func(concurrency int, handle func(protocol.Payload)) func() {
			working, stop := context.WithCancel(ctx)
			handler := func(_ context.Context, attempt *xqueue.Attempt) (any, error) {
				var payload protocol.Payload
				if err := attempt.Payload(&payload); err != nil {
					return nil, err
				}
				handle(payload)
				return nil, nil
			}
			worker := xqueue.Worker{Handlers: map[string]xqueue.Handler{"bench": handler}, Concurrency: concurrency}
			ended := make(chan error)
			go func() { ended <- worker.Run(working) }()
			return func() {
				stop()
				if err := <-ended; err != nil {
					log.Fatal(err)
				}
			}
		},
		Held: func() int {
			var stats struct {
				Pending    int `json:"pending_tasks"`
				Processing int `json:"processing_tasks"`
			}
			if err := client.Call(ctx, "GET", "/stats", nil, &stats); err != nil {
				log.Fatal(err)
			}
			return stats.Pending + stats.Processing
		},
	})
}
