// Asynq for `npm run bench -- peers`; see ../PROTOCOL.md. It keeps results, as XQueue does. REDIS_PORT is its Redis.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/hibiken/asynq"
	"protocol"
)

func main() {
	redis := asynq.RedisClientOpt{Addr: "127.0.0.1:" + os.Getenv("REDIS_PORT")}
	client := asynq.NewClient(redis)
	protocol.Main(protocol.Contender{
		Submit: func(payload protocol.Payload) error {
			text, err := json.Marshal(payload)
			if err != nil {
				return err
			}
			_, err = client.Enqueue(asynq.NewTask("bench", text), asynq.Retention(24*time.Hour))
			return err
		},
		Work: func(concurrency int, handle func(protocol.Payload)) func() {
			mux := asynq.NewServeMux()
			mux.HandleFunc("bench", func(_ context.Context, task *asynq.Task) error {
				var payload protocol.Payload
				if err := json.Unmarshal(task.Payload(), &payload); err != nil {
					return err
				}
				handle(payload)
				_, err := task.ResultWriter().Write([]byte("null"))
				return err
			})
			server := asynq.NewServer(redis, asynq.Config{Concurrency: concurrency, LogLevel: asynq.ErrorLevel})
			if err := server.Start(mux); err != nil {
				log.Fatal(err)
			}
			return server.Shutdown
		},
		Held: func() int {
			info, err := asynq.NewInspector(redis).GetQueueInfo("default")
			if err != nil {
				log.Fatal(err)
			}
			return info.Pending + info.Active + info.Scheduled + info.Retry
		},
	})
}
