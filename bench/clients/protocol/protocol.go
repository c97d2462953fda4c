// Package protocol runs one queue as ../PROTOCOL.md describes it.
package protocol

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Payload is what a task carries.
type Payload struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

// Contender is a queue in the comparison.
type Contender struct {
	// Submit submits one task.
	Submit func(Payload) error
	// SubmitMany submits them with one call; nil if the queue has no such call.
	SubmitMany func([]Payload) error
	// Work starts a worker, and returns its graceful stop.
	Work func(concurrency int, handle func(Payload)) (stop func())
	// Held counts the tasks without a final outcome.
	Held func() int
}

const (
	batchMax      = 1000
	batchBytesMax = 1000000
	fillers       = 20
	others        = 60
)

// Main does what the arguments of the program say.
func Main(contender Contender) {
	numbers := make([]int, 5)
	for index, text := range os.Args[2:] {
		numbers[index], _ = strconv.Atoi(text)
	}
	lines := listen()
	if os.Args[1] == "submit" {
		submit(contender, lines, numbers[0], numbers[1], numbers[2], textOf(numbers[3]))
	} else {
		work(contender, lines, numbers[0], numbers[1], numbers[2], numbers[3], time.Duration(numbers[4])*time.Millisecond)
	}
}

func submit(contender Contender, lines <-chan string, callers, warmup, count int, text string) {
	calls(contender, callers, 0, warmup, text)
	say(map[string]any{"event": "ready"})
	<-lines
	begun := time.Now()
	calls(contender, callers, warmup, warmup+count, text)
	say(map[string]any{"event": "end", "seconds": time.Since(begun).Seconds()})
	say(map[string]any{"event": "done", "held": contender.Held()})
}

func calls(contender Contender, callers, from, to int, text string) {
	var group sync.WaitGroup
	next := int64(from) - 1
	for caller := 0; caller < callers; caller++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				n := int(atomic.AddInt64(&next, 1))
				if n >= to {
					return
				}
				check(contender.Submit(Payload{n, text}))
			}
		}()
	}
	group.Wait()
}

func fill(contender Contender, count, bytes int) {
	text := textOf(bytes)
	if contender.SubmitMany == nil {
		calls(contender, fillers, 0, count, text)
		return
	}
	size := max(1, min(batchMax, batchBytesMax/bytes))
	for from := 0; from < count; from += size {
		payloads := []Payload{}
		for n := from; n < min(from+size, count); n++ {
			payloads = append(payloads, Payload{n, text})
		}
		check(contender.SubmitMany(payloads))
	}
}

func work(contender Contender, lines <-chan string, concurrency, warmup, count, bytes int, takes time.Duration) {
	total := warmup + count
	fill(contender, total, bytes)
	handled := make([]atomic.Int32, total)
	var distinct, twice atomic.Int32
	var begun atomic.Int64
	all := make(chan bool)
	handle := func(payload Payload) {
		time.Sleep(takes)
		if handled[payload.N].Add(1) > 1 {
			twice.Add(1)
			return
		}
		switch int(distinct.Add(1)) {
		case warmup:
			say(map[string]any{"event": "begin"})
			begun.Store(time.Now().UnixNano())
		case total:
			close(all)
		}
	}
	say(map[string]any{"event": "ready"})
	<-lines
	begun.Store(time.Now().UnixNano())
	stop := contender.Work(concurrency, handle)
	select {
	case <-all:
	case <-lines:
	}
	say(map[string]any{"event": "end", "seconds": float64(time.Now().UnixNano()-begun.Load()) / 1e9})
	stop()
	lost := total - int(distinct.Load())
	say(map[string]any{"event": "done", "lost": lost, "twice": twice.Load(), "held": contender.Held()})
}

func textOf(bytes int) string { return strings.Repeat("x", max(0, bytes-others)) }

func listen() <-chan string {
	lines := make(chan string, 2)
	go func() {
		for scanner := bufio.NewScanner(os.Stdin); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

var mutex sync.Mutex

func say(line map[string]any) {
	text, err := json.Marshal(line)
	check(err)
	mutex.Lock()
	defer mutex.Unlock()
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
