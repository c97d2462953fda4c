package xqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xqueue"
)

// The client against a real server, whose address is in XQUEUE_SERVER.

var duration = func(seconds float64) map[string]float64 { return map[string]float64{"duration": seconds} }

func key(t *testing.T) string { return fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano()) }

func refusedWith(t *testing.T, err error, code string) *xqueue.Error {
	t.Helper()
	var refused *xqueue.Error
	if !errors.As(err, &refused) || refused.Code != code {
		t.Fatalf("got the error %v, want code %s", err, code)
	}
	return refused
}

func submit(t *testing.T, task xqueue.NewTask) *xqueue.Task {
	t.Helper()
	accepted, err := xqueue.NewClient("", "").Submit(context.Background(), task)
	if err != nil {
		t.Fatal(err)
	}
	return accepted
}

func TestSubmitsWithEveryOptionAndReadsItBack(t *testing.T) {
	runAt := time.Now().Add(time.Hour)
	other := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), Delay: time.Minute})
	task := submit(t, xqueue.NewTask{
		Type: "example", Payload: duration(1), Priority: 7, RunAt: runAt, MaxRetry: xqueue.Ptr(0),
		QueueTimeout: xqueue.Ptr(90 * time.Minute), ProcessTimeout: xqueue.Ptr(2500 * time.Millisecond),
		Tags: map[string]string{"order": "7"}, Group: "Müller & Co", IdempotencyKey: key(t),
		After: []string{other.ID}, OnFailure: xqueue.WaitForRetry, Batch: "of one",
	})
	again, err := xqueue.NewClient("", "").Get(context.Background(), task.ID)
	if err != nil || !reflect.DeepEqual(again, task) {
		t.Fatalf("got %+v (%v), want %+v", again, err, task)
	}
	if task.Status != xqueue.Pending || task.Priority != 7 || task.MaxRetry != 0 || task.QueueTimeout != 5400 ||
		task.ProcessTimeout != 2.5 || task.Tags["order"] != "7" || task.Group != "Müller & Co" {
		t.Fatalf("got %+v", task)
	}
	if len(task.After) != 1 || task.After[0] != other.ID || task.OnFailure != "wait" || task.Batch != "of one" {
		t.Fatalf("got %+v", task)
	}
	if off := task.RunAt.Sub(runAt); off > time.Millisecond || off < -time.Millisecond {
		t.Fatalf("run_at is off by %s", off)
	}
}

func TestSubmitsOnceForAKey(t *testing.T) {
	task := xqueue.NewTask{Type: "example", Payload: duration(0), IdempotencyKey: key(t)}
	if first, second := submit(t, task), submit(t, task); first.ID != second.ID {
		t.Fatalf("submitted twice: %s and %s", first.ID, second.ID)
	}
	task.Payload = duration(1)
	_, err := xqueue.NewClient("", "").Submit(context.Background(), task)
	refusedWith(t, err, "idempotency_conflict")
}

func TestSubmitsTasksThatWaitForEachOther(t *testing.T) {
	ctx, client, batch := context.Background(), xqueue.NewClient("", ""), key(t)
	ids, err := client.SubmitMany(ctx, []xqueue.NewTask{
		{Type: "example", Payload: duration(0.1), Batch: batch},
		{Type: "example", Payload: duration(0), AfterPlaces: []int{0}, OnFailure: xqueue.RunAnyway, Batch: batch},
	})
	if err != nil {
		t.Fatal(err)
	}
	last := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), After: ids, Batch: batch})
	ended, err := client.Wait(ctx, last.ID)
	if err != nil || ended.Status != xqueue.Success || !reflect.DeepEqual(ended.After, ids) {
		t.Fatalf("got %+v (%v)", ended, err)
	}
	var state struct {
		Total, Success int
		Done           bool
	}
	if err := client.Call(ctx, "GET", "/batches/"+batch, nil, &state); err != nil || state.Total != 3 || !state.Done {
		t.Fatalf("got %+v (%v)", state, err)
	}
	_, err = client.Submit(ctx, xqueue.NewTask{Type: "example", Payload: duration(0), After: []string{"none"}})
	refusedWith(t, err, "unknown_predecessor")
	_, err = client.SubmitMany(ctx, []xqueue.NewTask{{Type: "example", Payload: duration(0), AfterPlaces: []int{1}}})
	if path := refusedWith(t, err, "invalid_request").Errors[0].Path; path != "tasks[0].after[0]" {
		t.Fatalf("got the path %s", path)
	}
}

func TestSubmitsManyAllOrNone(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	tasks := []xqueue.NewTask{}
	for priority := 0; priority < 3; priority++ {
		tasks = append(tasks, xqueue.NewTask{Type: "example", Payload: duration(0), Priority: priority})
	}
	ids, err := client.SubmitMany(ctx, tasks)
	if err != nil {
		t.Fatal(err)
	}
	for priority, id := range ids {
		if task, err := client.Get(ctx, id); err != nil || task.Priority != priority {
			t.Fatalf("got %+v (%v), want priority %d", task, err, priority)
		}
	}
	tasks[1].Priority = 11
	_, err = client.SubmitMany(ctx, tasks)
	if refused := refusedWith(t, err, "invalid_request"); refused.Errors[0].Path != "tasks[1].priority" {
		t.Fatalf("got %+v", refused.Errors)
	}
}

func TestSaysWhatToMend(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	_, err := client.Submit(ctx, xqueue.NewTask{Type: "nobody-runs-this"})
	if refused := refusedWith(t, err, "unknown_type"); !strings.Contains(fmt.Sprint(refused.RegisteredTypes), "example") {
		t.Fatalf("got %v", refused.RegisteredTypes)
	}
	_, err = client.Get(ctx, "no/such?task")
	refusedWith(t, err, "not_found")
}

func TestWaitsForTheEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := xqueue.NewClient("", "")
	task, err := client.Wait(ctx, submit(t, xqueue.NewTask{Type: "example", Payload: duration(0.2)}).ID)
	if err != nil || task.Status != xqueue.Success || string(task.Result) != `{"slept":0.2}` {
		t.Fatalf("got %+v (%v)", task, err)
	}
	waiting := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), Delay: time.Minute})
	short, leave := context.WithTimeout(ctx, 100*time.Millisecond)
	defer leave()
	if _, err := client.Wait(short, waiting.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestWaitsForATaskThatIsNotKept(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	settings := map[string]any{"declared": true, "retention": map[string]int{"canceled": 0}}
	if err := client.Call(ctx, "POST", "/types/not-kept", settings, nil); err != nil {
		t.Fatal(err)
	}
	task := submit(t, xqueue.NewTask{Type: "not-kept", Payload: 1, Delay: time.Minute})
	time.AfterFunc(200*time.Millisecond, func() { _, _ = client.Cancel(ctx, task.ID) })
	ended, err := client.Wait(ctx, task.ID)
	if err != nil || ended.Status != xqueue.Canceled || ended.CompletedAt == nil {
		t.Fatalf("got %+v (%v)", ended, err)
	}
}

func TestHearsOfAnEndWhileItWaits(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	waiting := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), Delay: time.Minute})
	time.AfterFunc(100*time.Millisecond, func() { _, _ = client.Cancel(ctx, waiting.ID) })
	if task, err := client.Wait(ctx, waiting.ID); err != nil || task.Status != xqueue.Canceled {
		t.Fatalf("got %+v (%v)", task, err)
	}
}

func TestCancelsOnce(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	waiting := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), Delay: time.Minute})
	if task, err := client.Cancel(ctx, waiting.ID); err != nil || task.Status != xqueue.Canceled {
		t.Fatalf("got %+v (%v)", task, err)
	}
	_, err := client.Cancel(ctx, waiting.ID)
	refusedWith(t, err, "task_finished")
}

func TestPurgesWhatHasFinished(t *testing.T) {
	ctx, client := context.Background(), xqueue.NewClient("", "")
	waiting := submit(t, xqueue.NewTask{Type: "example", Payload: duration(0), Delay: time.Minute})
	refusedWith(t, client.Purge(ctx, waiting.ID), "task_not_finished")
	if _, err := client.Cancel(ctx, waiting.ID); err != nil {
		t.Fatal(err)
	}
	if err := client.Purge(ctx, waiting.ID); err != nil {
		t.Fatal(err)
	}
	_, err := client.Get(ctx, waiting.ID)
	refusedWith(t, err, "not_found")
}

func TestMakesAnyCall(t *testing.T) {
	var answer struct{ Handlers []string }
	err := xqueue.NewClient("", "").Call(context.Background(), "GET", "/handlers", nil, &answer)
	if err != nil || !strings.Contains(fmt.Sprint(answer.Handlers), "example") {
		t.Fatalf("got %v (%v)", answer, err)
	}
}

// breaks ends the first connections after it has read the call, then refuses each call in words.
func breaks(t *testing.T) (server *httptest.Server, calls func() []string) {
	var mutex sync.Mutex
	var heard []string
	server = httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		mutex.Lock()
		heard = append(heard, request.Header.Get("Authorization"))
		count := len(heard)
		mutex.Unlock()
		if count <= 2 {
			panic(http.ErrAbortHandler)
		}
		response.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(response).Encode(map[string]string{"code": "unauthorized"})
	}))
	t.Cleanup(server.Close)
	return server, func() []string {
		mutex.Lock()
		defer mutex.Unlock()
		return heard
	}
}

func TestASubmissionThatMayHaveArrivedIsNotRepeated(t *testing.T) {
	server, calls := breaks(t)
	_, err := xqueue.NewClient(server.URL, "").Submit(context.Background(), xqueue.NewTask{Type: "example"})
	refusedWith(t, err, "engine_unavailable")
	if len(calls()) != 1 {
		t.Fatalf("got %d calls, want 1", len(calls()))
	}
}

func TestOneWithAKeyIsRepeatedAndBringsWhoCalls(t *testing.T) {
	server, calls := breaks(t)
	task := xqueue.NewTask{Type: "example", IdempotencyKey: "once"}
	_, err := xqueue.NewClient(server.URL, "secret").Submit(context.Background(), task)
	refusedWith(t, err, "unauthorized")
	if got := fmt.Sprint(calls()); got != "[Bearer secret Bearer secret Bearer secret]" {
		t.Fatalf("got %s", got)
	}
}

func TestOneThatWasNotSentIsRepeatedUntilPatienceEnds(t *testing.T) {
	server, _ := breaks(t)
	server.Close()
	client := xqueue.NewClient(server.URL, "")
	client.Patience = 500 * time.Millisecond
	_, err := client.Submit(context.Background(), xqueue.NewTask{Type: "example"})
	refused := refusedWith(t, err, "engine_unavailable")
	if !strings.Contains(refused.Error(), "check that `xqueue serve` runs there") {
		t.Fatalf("got %v", refused)
	}
}

// counted is the server behind a proxy that counts the calls by their paths.
func counted(t *testing.T) (*xqueue.Client, func() map[string]int) {
	t.Helper()
	target, err := url.Parse(xqueueServer())
	if err != nil {
		t.Fatal(err)
	}
	var mutex sync.Mutex
	calls := map[string]int{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		mutex.Lock()
		calls[request.URL.Path]++
		mutex.Unlock()
		proxy.ServeHTTP(response, request)
	}))
	t.Cleanup(server.Close)
	return xqueue.NewClient(server.URL, ""), func() map[string]int {
		mutex.Lock()
		defer mutex.Unlock()
		return calls
	}
}

func xqueueServer() string { return os.Getenv("XQUEUE_SERVER") }

func TestConcurrentSubmissionsShareCalls(t *testing.T) {
	client, calls := counted(t)
	const callers = 100
	key := key(t)
	keyed := submit(t, xqueue.NewTask{Type: "example", Payload: duration(1), Delay: time.Minute, IdempotencyKey: key})
	codes, ids := make([]string, callers), make([]string, callers)
	var group sync.WaitGroup
	for caller := 0; caller < callers; caller++ {
		caller := caller
		group.Add(1)
		go func() {
			defer group.Done()
			task := xqueue.NewTask{Type: "example", Payload: duration(float64(caller)), Delay: time.Minute}
			switch caller {
			case 10:
				task.Type = "nobody-runs-this"
			case 20:
				task.Priority = 11
			case 30:
				task.Payload, task.IdempotencyKey = duration(1), key
			case 40:
				task.IdempotencyKey = key
			}
			accepted, err := client.Submit(context.Background(), task)
			var refused *xqueue.Error
			if errors.As(err, &refused) {
				codes[caller] = refused.Code
			} else if payload := fmt.Sprintf(`{"duration":%d}`, caller); caller != 30 && string(accepted.Payload) != payload {
				t.Errorf("caller %d got the task %+v", caller, accepted)
			} else {
				ids[caller] = accepted.ID
			}
		}()
	}
	group.Wait()
	for caller, code := range codes {
		want := map[int]string{10: "unknown_type", 20: "invalid_request", 40: "idempotency_conflict"}[caller]
		if code != want {
			t.Errorf("caller %d got the code %q, want %q", caller, code, want)
		}
	}
	if ids[30] != keyed.ID {
		t.Errorf("got the task %s for a known key, want %s", ids[30], keyed.ID)
	}
	got := calls()
	if got["/api/v1/tasks/batch"] == 0 || got["/api/v1/tasks"] > callers/2 {
		t.Errorf("got the calls %v", got)
	}
}

func TestASubmissionThatIsGivenUpLeavesTheOthers(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		<-release
		_ = json.NewEncoder(response).Encode(map[string]string{"id": "7", "type": "example"})
	}))
	t.Cleanup(server.Close)
	client := xqueue.NewClient(server.URL, "")
	others := make(chan error, 2)
	for count := 0; count < 2; count++ {
		go func() {
			_, err := client.Submit(context.Background(), xqueue.NewTask{Type: "example", AfterPlaces: []int{0}})
			others <- err
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Submit(ctx, xqueue.NewTask{Type: "example"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(release)
	for count := 0; count < 2; count++ {
		if err := <-others; err != nil {
			t.Error(err)
		}
	}
}

func TestKeepsAsManyConnectionsAsItHasConcurrentCalls(t *testing.T) {
	const callers = 20
	var accepted atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		_ = json.NewEncoder(response).Encode(map[string]string{"id": "7"})
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := xqueue.NewClient(server.URL, "")
	getOften := func() {
		var group sync.WaitGroup
		for caller := 0; caller < callers; caller++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for call := 0; call < 50; call++ {
					if _, err := client.Get(context.Background(), "7"); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		group.Wait()
	}
	getOften()
	// A connection that was begun while another one became free is kept too.
	if got := accepted.Load(); got > 2*callers {
		t.Fatalf("got %d connections for %d callers", got, callers)
	}
	server.CloseClientConnections()
	getOften()
	if got := accepted.Load(); got > 4*callers {
		t.Fatalf("got %d connections for %d callers, after the server had closed them once", got, callers)
	}
}

func TestWaitsForLongerThanACallMay(t *testing.T) {
	answers := []func(http.ResponseWriter){
		func(response http.ResponseWriter) { refuseWith(response, http.StatusTooManyRequests, "too_many_calls") },
		func(response http.ResponseWriter) { _, _ = response.Write([]byte("\n\n")) }, // Not ended by then.
		func(response http.ResponseWriter) {
			refuseWith(response, http.StatusServiceUnavailable, "shutting_down")
		},
		func(response http.ResponseWriter) {
			_, _ = response.Write([]byte("\n" + `{"id": "7", "status": "failed"}` + "\n"))
		},
	}
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		var body struct{ IDs []string }
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil || !reflect.DeepEqual(body.IDs, []string{"7"}) {
			t.Errorf("got %s %+v (%v)", request.URL.Path, body, err)
		}
		answers[calls](response)
		calls++
	}))
	t.Cleanup(server.Close)
	client := xqueue.NewClient(server.URL, "")
	client.Patience = 2 * time.Second
	task, err := client.Wait(context.Background(), "7")
	if err != nil || task.Status != xqueue.Failed || calls != len(answers) {
		t.Fatalf("got %+v (%v) after %d calls", task, err, calls)
	}
}

func refuseWith(response http.ResponseWriter, status int, code string) {
	response.WriteHeader(status)
	_ = json.NewEncoder(response).Encode(map[string]string{"code": code})
}

func TestWaitsForNoTaskThatDoesNotExist(t *testing.T) {
	_, err := xqueue.NewClient("", "").Wait(context.Background(), "none")
	refusedWith(t, err, "not_found")
}
