package xqueue

import (
	"sync"
	"time"
)

// attempts are those of a worker: running ones, and ended ones whose outcome the server has not answered yet.
type attempts struct {
	mutex   sync.Mutex
	most    int // running at once
	running int
	wanted  int // asked for by the calls under way
	held    map[*Attempt]struct{}
	ended   []*report // outcomes to report, in order
	// isReporting says that a call with outcomes is under way.
	isReporting bool
	isStopping  bool
	// Each has room for one signal: there may be something to report, to claim, to renew, or nothing is held.
	report, claim, renew, idle chan struct{}
}

func newAttempts(most int) *attempts {
	signal := func() chan struct{} { return make(chan struct{}, 1) }
	return &attempts{
		most: most, held: map[*Attempt]struct{}{},
		report: signal(), claim: signal(), renew: signal(), idle: signal(),
	}
}

func raise(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// reserve takes all the room there is for a call that claims; the caller gives it back with claimed. A call that only
// claims has room when there is nothing to report, because the report claims as well.
func (a *attempts) reserve(withReport bool) int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.isStopping || (!withReport && (a.isReporting || len(a.ended) > 0)) {
		return 0
	}
	room := a.most - a.running - a.wanted
	if room > claimMost {
		room = claimMost
	}
	if room < 0 {
		return 0
	}
	a.wanted += room
	return room
}

// claimed adds the attempts that a call has brought, and gives back what it had reserved.
func (a *attempts) claimed(reserved int, brought []*Attempt) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.wanted -= reserved
	a.running += len(brought)
	for _, attempt := range brought {
		a.held[attempt] = struct{}{}
	}
	if len(brought) > 0 {
		raise(a.renew)
	}
	raise(a.claim)
}

// finish notes that a handler has ended; without a report the lease is given up.
func (a *attempts) finish(attempt *Attempt, outcome *report) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.running--
	if outcome != nil {
		a.ended = append(a.ended, outcome)
		raise(a.report)
	} else {
		a.remove(attempt)
	}
	raise(a.claim)
}

// takeReports returns outcomes for one call, bounded in count and bytes.
func (a *attempts) takeReports() []*report {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	count, bytes := 0, 0
	for count < len(a.ended) && count < reportMost && (count == 0 || bytes < reportBytesMost) {
		bytes += len(a.ended[count].Result)
		count++
	}
	taken := a.ended[:count:count]
	a.ended = a.ended[count:]
	a.isReporting = count > 0
	return taken
}

// reported ends a call with outcomes: those in again are offered once more, the attempts in done are settled.
func (a *attempts) reported(again []*report, done []*Attempt) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.isReporting = false
	for _, attempt := range done {
		a.remove(attempt)
	}
	if len(again) > 0 {
		a.ended = append(append([]*report{}, again...), a.ended...)
	}
	if len(a.ended) > 0 {
		raise(a.report)
	}
	raise(a.claim)
}

func (a *attempts) remove(attempt *Attempt) {
	delete(a.held, attempt)
	if len(a.held) == 0 {
		raise(a.idle)
	}
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

func (a *attempts) stopClaiming() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.isStopping = true
}

func (a *attempts) waitUntilIdle(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		if len(a.all()) == 0 {
			return true
		}
		select {
		case <-a.idle:
		case <-timer.C:
			return false
		}
	}
}
