package xqueue

import (
	"sync"
	"time"
)

// attempts are those of a worker: waiting ones, running ones, and ended ones whose outcome the server has not answered
// yet.
type attempts struct {
	mutex   sync.Mutex
	most    int // running at once
	running int
	wanted  int // asked for by the calls under way
	held    map[*Attempt]struct{}
	waiting []*Attempt // claimed ahead, in order
	pace    pace
	endings int
	check   *time.Timer // nil: nothing waits
	ended   []*report   // outcomes to report, in order
	// isReporting says that a call with outcomes is under way.
	isReporting bool
	isStopping  bool
	// Each has room for one signal: there may be something to report, to claim, to renew, or nothing is held.
	report, claim, renew, idle chan struct{}
}

func newAttempts(most, aheadMost int) *attempts {
	signal := func() chan struct{} { return make(chan struct{}, 1) }
	return &attempts{
		most: most, held: map[*Attempt]struct{}{}, pace: pace{concurrency: most, aheadMost: aheadMost, mean: quickMost},
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
// claims has room when there is nothing to report, because the report claims as well. With mayWait it claims ahead.
func (a *attempts) reserve(withReport, mayWait bool) int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.isStopping || (!withReport && (a.isReporting || len(a.ended) > 0)) {
		return 0
	}
	room := a.most - a.running - len(a.waiting) - a.wanted
	if mayWait {
		room += a.pace.ahead()
	}
	if room > claimMost {
		room = claimMost
	}
	if room < 0 {
		return 0
	}
	a.wanted += room
	return room
}

// claimed adds the attempts that a call has brought, and gives back what it had reserved. It returns those to run now.
func (a *attempts) claimed(reserved int, brought []*Attempt) []*Attempt {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.wanted -= reserved
	for _, attempt := range brought {
		a.held[attempt] = struct{}{}
	}
	if len(brought) > 0 {
		raise(a.renew)
	}
	raise(a.claim)
	started := brought
	if a.isStopping {
		a.waiting = append(a.waiting, brought...)
		a.releaseWaiting("")
		return nil
	}
	if len(a.waiting) > 0 || a.running+len(brought) > a.most {
		a.waiting = append(a.waiting, brought...)
		started = nil
		for a.running+len(started) < a.most && len(a.waiting) > 0 {
			if next := a.next(); next != nil {
				started = append(started, next)
			}
		}
		a.checkSoon()
	}
	a.running += len(started)
	return started
}

// finish notes that a handler has ended, and returns the attempt to run next, or nil. Without a report the lease is given
// up.
func (a *attempts) finish(attempt *Attempt, outcome *report, took time.Duration) *Attempt {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.endings++
	a.pace.ended(took)
	if outcome != nil {
		a.ended = append(a.ended, outcome)
		raise(a.report)
	} else {
		a.remove(attempt)
	}
	if outcome != nil && outcome.Hold != nil {
		a.releaseWaiting(attempt.Task.Type)
	}
	raise(a.claim)
	next := a.next()
	if next == nil {
		a.running--
	}
	return next
}

// next takes the first waiting attempt that may start; nil if there is none.
func (a *attempts) next() *Attempt {
	for len(a.waiting) > 0 {
		attempt := a.waiting[0]
		a.waiting = a.waiting[1:]
		if attempt.mayStart() {
			return attempt
		}
		a.release(attempt)
	}
	return nil
}

// release gives a task back that has not started, unless its lease is lost. A canceled one ends as canceled then.
func (a *attempts) release(attempt *Attempt) {
	attempt.cancel()
	if _, isLost := attempt.fate(); isLost {
		a.remove(attempt)
		return
	}
	a.ended = append(a.ended, &report{Lease: attempt.lease, Release: true, attempt: attempt})
	raise(a.report)
}

// releaseWaiting gives back the waiting tasks of a type, or all.
func (a *attempts) releaseWaiting(taskType string) {
	a.pace.slow()
	kept := []*Attempt{}
	for _, attempt := range a.waiting {
		if taskType == "" || attempt.Task.Type == taskType {
			a.release(attempt)
		} else {
			kept = append(kept, attempt)
		}
	}
	a.waiting = kept
}

// checkSoon gives back what waits if no attempt ends in time: another worker may run it.
func (a *attempts) checkSoon() {
	if a.check != nil || len(a.waiting) == 0 {
		return
	}
	before := a.endings
	a.check = time.AfterFunc(waitingMost, func() {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.check = nil
		if a.endings == before {
			a.releaseWaiting("")
		}
		a.checkSoon()
	})
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
	a.releaseWaiting("")
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
