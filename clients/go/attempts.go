package xqueue

import (
	"context"
	"sync"
	"time"
)

// attempts are those that a worker runs: one place in free for each, and one for each that is asked for.
type attempts struct {
	free  chan struct{}
	mutex sync.Mutex
	held  map[*Attempt]struct{}
	group sync.WaitGroup
}

// reserve waits for room and takes all that there is; 0 when ctx has ended.
func (a *attempts) reserve(ctx context.Context) int {
	select {
	case a.free <- struct{}{}:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return 0
	}
	for count := 1; ; count++ {
		select {
		case a.free <- struct{}{}:
		default:
			return count
		}
	}
}

func (a *attempts) giveBack(count int) {
	for ; count > 0; count-- {
		<-a.free
	}
}

func (a *attempts) add(attempt *Attempt) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.held[attempt] = struct{}{}
	a.group.Add(1)
}

func (a *attempts) remove(attempt *Attempt) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.held, attempt)
	a.group.Done()
	<-a.free
}

func (a *attempts) all() []*Attempt {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	list := make([]*Attempt, 0, len(a.held))
	for attempt := range a.held {
		list = append(list, attempt)
	}
	return list
}

func (a *attempts) waitUntilIdle(most time.Duration) bool {
	idle := make(chan struct{})
	go func() {
		a.group.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return true
	case <-time.After(most):
		return false
	}
}
