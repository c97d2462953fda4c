// River for `npm run bench -- peers`; see ../PROTOCOL.md. DATABASE_URL is an empty database of PostgreSQL.
//
// It fetches as often as its own `river bench` does: the defaults of 100 ms and 1 s would decide every figure.
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"protocol"
)

// As for the other queues on PostgreSQL: callers at once share the sync of a commit.
const connections = 25

type args struct{ protocol.Payload }

func (args) Kind() string { return "bench" }

func main() {
	ctx := context.Background()
	settings, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	check(err)
	settings.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	check(err)
	driver := riverpgxv5.New(pool)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: logger})
	check(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
	client, err := river.NewClient(driver, &river.Config{Logger: logger})
	check(err)
	protocol.Main(protocol.Contender{
		Submit: func(payload protocol.Payload) error {
			_, err := client.Insert(ctx, args{payload}, nil)
			return err
		},
		SubmitMany: func(payloads []protocol.Payload) error {
			many := make([]river.InsertManyParams, 0, len(payloads))
			for _, payload := range payloads {
				many = append(many, river.InsertManyParams{Args: args{payload}})
			}
			_, err := client.InsertManyFast(ctx, many)
			return err
		},
		Work: func(concurrency int, handle func(protocol.Payload)) func() {
			workers := river.NewWorkers()
			river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[args]) error {
				handle(job.Args.Payload)
				return nil
			}))
			worker := working(driver, &river.Config{
				Logger:            logger,
				FetchCooldown:     2 * time.Millisecond,
				FetchPollInterval: 20 * time.Millisecond,
				Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: concurrency}},
				Workers:           workers,
			})
			check(worker.Start(ctx))
			return func() { check(worker.Stop(ctx)) }
		},
		Held: func() int {
			var count int
			check(pool.QueryRow(ctx, "select count(*) from river_job where finalized_at is null").Scan(&count))
			return count
		},
	})
}

func working(driver *riverpgxv5.Driver, config *river.Config) *river.Client[pgx.Tx] {
	client, err := river.NewClient(driver, config)
	check(err)
	return client
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
