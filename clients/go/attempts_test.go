package xqueue

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestStartsNoTaskThatWasCanceledLostOrHeldForTooLong(t *testing.T) {
	attempts := newAttempts(1, 128)
	brought := []*Attempt{}
	for range [5]int{} {
		ctx, cancel := context.WithCancel(context.Background())
		task := &Task{Type: "quick"}
		attempt := &Attempt{Task: task, ctx: ctx, cancel: cancel, expiresAt: wallClock().Add(time.Hour), wasHeld: true}
		brought = append(brought, attempt)
	}
	first, canceled, lost, over, last := brought[0], brought[1], brought[2], brought[3], brought[4]
	started := attempts.claimed(0, brought)
	if len(started) != 1 || started[0] != first {
		t.Fatalf("started %d tasks, not the first", len(started))
	}
	canceled.stop("the task was canceled", false)
	lost.stop(leaseLost, true)
	over.expiresAt = wallClock().Add(-time.Second)
	if next := attempts.finish(first, first.success(nil), 0); next != last {
		t.Fatalf("the last of them is not the next")
	}
	reports := attempts.takeReports()
	if len(reports) != 3 || reports[0].Release || reports[1].attempt != canceled || reports[2].attempt != over {
		t.Fatalf("%d reports, not those of the first, the canceled one, and the one whose lease is over", len(reports))
	}
	if !reports[1].Release || !reports[2].Release || reports[1].instead(&Error{}) != nil {
		t.Fatal("what has not started is not given back")
	}
	if held := attempts.all(); len(held) != 4 {
		t.Fatalf("%d leases are held, with that of the lost task", len(held))
	}
}

// The last outcome is answered together with many tasks, after the worker began to stop.
func TestLeavesNothingBehindOfWhatTheLastReportBrings(t *testing.T) {
	const many = 200
	for range [100]int{} {
		ctx, stop := context.WithCancel(context.Background())
		var open atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			var turn struct {
				Max      int
				Wait     float64
				Outcomes []any
			}
			_ = json.NewDecoder(request.Body).Decode(&turn)
			settled, leases := make([]struct{}, len(turn.Outcomes)), []any{}
			lease := map[string]any{"lease": "one", "expires_at": time.Now().Add(time.Hour), "task": Task{Type: "quick"}}
			switch {
			case turn.Wait > 0 && ctx.Err() == nil:
				leases = append(leases, lease)
			case len(turn.Outcomes) > 0 && turn.Max > 0 && ctx.Err() == nil:
				for len(leases) < many {
					leases = append(leases, lease)
				}
				stop()
			}
			open.Add(int64(len(leases) - len(settled)))
			_ = json.NewEncoder(response).Encode(map[string]any{"outcomes": settled, "leases": leases})
		}))
		worker := Worker{Client: NewClient(server.URL, ""), Concurrency: 1, Handlers: map[string]Handler{
			"quick": func(context.Context, *Attempt) (any, error) { return nil, nil },
		}}
		if err := worker.Run(ctx); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if left := open.Load(); left != 0 {
			t.Fatalf("%d tasks are left behind", left)
		}
	}
}

func TestRunsFurtherTasksAfterAHandlerThatEndsItsGoroutine(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	var handed atomic.Int64
	errors := make(chan string, 3)
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		var turn struct {
			Max      int
			Outcomes []struct{ Error string }
		}
		_ = json.NewDecoder(request.Body).Decode(&turn)
		leases := []any{}
		for turn.Max > len(leases) && handed.Add(1) <= 3 {
			task := Task{ID: "id", Type: "exits"}
			leases = append(leases, map[string]any{"lease": "one", "expires_at": time.Now().Add(time.Hour), "task": task})
		}
		for _, outcome := range turn.Outcomes {
			errors <- outcome.Error
		}
		answer := map[string]any{"outcomes": make([]struct{}, len(turn.Outcomes)), "leases": leases}
		_ = json.NewEncoder(response).Encode(answer)
	}))
	t.Cleanup(server.Close)
	worker := Worker{Client: NewClient(server.URL, ""), Concurrency: 1, Log: t.Logf, Handlers: map[string]Handler{
		"exits": func(context.Context, *Attempt) (any, error) {
			runtime.Goexit()
			return nil, nil
		},
	}}
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()
	for range [3]int{} {
		if text := <-errors; text != errGoexit.Error() {
			t.Errorf("the outcome is %q", text)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestHoldsTasksOnlyWhileHandlersAreQuick(t *testing.T) {
	pace := pace{concurrency: 2, aheadMost: 128, mean: quickMost}
	quick := func(count int) {
		for ; count > 0; count-- {
			pace.ended(50 * time.Microsecond)
		}
	}
	quick(quickLeast - 1)
	if pace.ahead() != 0 {
		t.Fatal("it claims ahead before it has seen enough")
	}
	quick(1)
	first := pace.ahead()
	quick(1_000)
	if most := pace.ahead(); first == 0 || most != 128 {
		t.Fatalf("%d and then %d ahead", first, most)
	}
	pace.ended(quickMost + 1)
	if pace.ahead() != 0 {
		t.Fatal("it claims ahead after a slow attempt")
	}
	pace.aheadMost = -1
	quick(1_000)
	if pace.ahead() != 0 {
		t.Fatal("it claims ahead although it must not")
	}
}
