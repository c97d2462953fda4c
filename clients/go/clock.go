package xqueue

import (
	"sync"
	"time"
)

// Calls of which the one with the quickest answer tells the truth best, and the resolution of Date.
const (
	clockCalls     = 8
	dateResolution = time.Second
)

// serverClock tells how far this machine's clock is ahead of the server's. It never says more than the truth: an answer
// that is read late, as after the process stood still, makes the clock seem ahead, and a lease longer than it is.
type serverClock struct {
	mutex sync.Mutex
	ahead []time.Duration
}

// answered notes the Date of an answer that was read just now.
func (c *serverClock) answered(date time.Time) {
	if date.IsZero() {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.ahead = append(c.ahead, wallClock().Sub(date))
	if len(c.ahead) > clockCalls {
		c.ahead = c.ahead[1:]
	}
}

// local is a time of the server by the clock of this machine.
func (c *serverClock) local(at time.Time) time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.ahead) == 0 {
		return at
	}
	ahead := c.ahead[0]
	for _, other := range c.ahead {
		if other < ahead {
			ahead = other
		}
	}
	return at.Add(ahead - dateResolution)
}

// wallClock goes on while the machine is suspended, which the monotonic clock does not.
func wallClock() time.Time { return time.Now().Round(0) }
