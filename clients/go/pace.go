package xqueue

import "time"

const (
	// An attempt longer than this ends claiming ahead.
	quickMost = 5 * time.Millisecond
	// The work of tasks that are held but not started.
	heldWorkMost = 5 * time.Millisecond
	// So many quick attempts come before it, so that a worker after a crash claims only tasks that it runs.
	quickLeast = 100
	// What waits is given back if no attempt ends for so long.
	waitingMost       = 20 * time.Millisecond
	claimAheadDefault = 128
)

// pace measures how fast handlers end. If they take no longer than a call, the calls take most of the time; then the
// worker holds further tasks, which start when others end.
type pace struct {
	concurrency int
	aheadMost   int
	quick       int
	mean        time.Duration
}

// ended records the duration of an attempt.
func (p *pace) ended(took time.Duration) {
	p.quick++
	if took > quickMost {
		p.quick = 0
	}
	p.mean += (took - p.mean) / 32
}

// slow records that held tasks did not start in time.
func (p *pace) slow() { p.quick = 0 }

// ahead is how many tasks to hold beside the running ones.
func (p *pace) ahead() int {
	if p.quick < quickLeast || p.aheadMost < 0 {
		return 0
	}
	most := int(heldWorkMost * time.Duration(p.concurrency) / (p.mean + time.Microsecond))
	if most > p.aheadMost {
		return p.aheadMost
	}
	return most
}
