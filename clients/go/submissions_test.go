package xqueue_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"xqueue"
)

func TestASharedCallIsNotRepeatedUnlessEachTaskHasAKey(t *testing.T) {
	const callers = 20
	var mutex sync.Mutex
	shared := map[string]int{}
	arrived, release := make(chan bool, callers), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if strings.HasSuffix(request.URL.Path, "/batch") {
			body, _ := io.ReadAll(request.Body)
			mutex.Lock()
			shared[string(body)]++
			mutex.Unlock()
			panic(http.ErrAbortHandler)
		}
		arrived <- true
		<-release
		_ = json.NewEncoder(response).Encode(map[string]string{"id": "7", "type": "example"})
	}))
	t.Cleanup(server.Close)
	client := xqueue.NewClient(server.URL, "")
	client.Patience = 0
	var group sync.WaitGroup
	submit := func(task xqueue.NewTask) {
		group.Add(1)
		go func() {
			defer group.Done()
			_, _ = client.Submit(context.Background(), task)
		}()
	}
	// Only on a connection that was used before is a call sent again at once. These two are not shared.
	for count := 0; count < 2; count++ {
		submit(xqueue.NewTask{Type: "example", AfterPlaces: []int{0}})
	}
	<-arrived
	<-arrived
	close(release)
	group.Wait()
	for caller := 0; caller < callers; caller++ {
		task := xqueue.NewTask{Type: "example", Payload: caller}
		if caller == callers-1 {
			task.IdempotencyKey = key(t)
		}
		submit(task)
	}
	group.Wait()
	if len(shared) == 0 {
		t.Error("no call was shared")
	}
	for body, calls := range shared {
		if calls > 1 {
			t.Errorf("got %d calls with %s", calls, body)
		}
	}
}
