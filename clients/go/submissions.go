package xqueue

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// The most of one shared call, and of one task in it.
	sharedMost          = 1_000
	sharedBytesMost     = 1 << 20
	sharedTaskBytesMost = 64 << 10
	// A slow call under way delays others by no more than this.
	sharedWaitMost = 10 * time.Millisecond
)

// submissions lets concurrent submissions of a type share calls: one that finds no call under way is sent at once, and
// those that come meanwhile go together with the next call. Each gets its own answer or error. Types are not mixed: on a
// Redis Cluster only the tasks of one type are accepted in one step.
type submissions struct {
	client *Client
	mutex  sync.Mutex
	// Both by type.
	waiting  map[string][]*submission
	underWay map[string]int
	// isOld says that the server does not answer the tasks of a shared call in full.
	isOld atomic.Bool
}

type submission struct {
	ctx          context.Context
	kind         string
	text         json.RawMessage
	isRepeatable bool
	// done is closed when the submission has been answered, or must be sent alone.
	done    chan struct{}
	isAlone bool
	task    *Task
	err     error
}

func (s *submissions) submit(ctx context.Context, task NewTask) (*Task, error) {
	text, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	own := &submission{ctx: ctx, kind: task.Type, text: text, isRepeatable: task.IdempotencyKey != "", done: make(chan struct{})}
	// Places would be those of the shared call.
	if len(task.AfterPlaces) > 0 || len(text) > sharedTaskBytesMost || s.isOld.Load() {
		return s.alone(own)
	}
	s.mutex.Lock()
	if s.underWay[own.kind] == 0 {
		s.underWay[own.kind]++
		s.mutex.Unlock()
		defer s.next(own.kind)
		return s.alone(own)
	}
	s.waiting[own.kind] = append(s.waiting[own.kind], own)
	s.mutex.Unlock()
	timer := time.NewTimer(sharedWaitMost)
	defer timer.Stop()
	for {
		select {
		case <-own.done:
			if own.isAlone {
				return s.alone(own)
			}
			if own.task != nil && own.task.Type == "" { // Not in full.
				return s.client.Get(ctx, own.task.ID)
			}
			return own.task, own.err
		case <-timer.C:
			s.hurry(own)
		case <-ctx.Done():
			s.withdraw(own)
			return nil, ctx.Err()
		}
	}
}

func (s *submissions) alone(own *submission) (*Task, error) {
	task := new(Task)
	_, err := s.client.exchange(own.ctx, call{"POST", "/tasks", own.text, task}, own.isRepeatable, callTimeout)
	return answered(task, err)
}

// next ends a call, and sends those that came meanwhile.
func (s *submissions) next(kind string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if group := s.take(kind); group != nil {
		go s.send(group)
	} else if s.underWay[kind]--; s.underWay[kind] == 0 {
		delete(s.underWay, kind)
	}
}

// hurry sends a submission that has waited for long, with all others that wait.
func (s *submissions) hurry(own *submission) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, other := range s.waiting[own.kind] {
		if other == own {
			s.underWay[own.kind]++
			go s.send(s.take(own.kind))
			return
		}
	}
}

func (s *submissions) withdraw(own *submission) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	waiting := s.waiting[own.kind]
	for index, other := range waiting {
		if other == own {
			s.keep(own.kind, append(waiting[:index:index], waiting[index+1:]...))
			return
		}
	}
}

// take returns those for one call, nil if none wait.
func (s *submissions) take(kind string) []*submission {
	waiting := s.waiting[kind]
	count, bytes := 0, 0
	for count < len(waiting) && count < sharedMost && bytes < sharedBytesMost {
		bytes += len(waiting[count].text)
		count++
	}
	if count == 0 {
		return nil
	}
	s.keep(kind, waiting[count:])
	return waiting[:count:count]
}

func (s *submissions) keep(kind string, waiting []*submission) {
	if len(waiting) == 0 {
		delete(s.waiting, kind)
	} else {
		s.waiting[kind] = waiting
	}
}

func (s *submissions) send(group []*submission) {
	kind := group[0].kind
	defer s.next(kind)
	if len(group) == 1 {
		group[0].task, group[0].err = s.alone(group[0])
		close(group[0].done)
		return
	}
	texts, isRepeatable := make([]json.RawMessage, 0, len(group)), true
	for _, one := range group {
		texts = append(texts, one.text)
		isRepeatable = isRepeatable && one.isRepeatable
	}
	var answer struct {
		Tasks []*Task `json:"tasks"`
	}
	body := map[string]any{"tasks": texts}
	prefer := http.Header{"Prefer": {"return=representation"}}
	// Not the context of one of them: the others go on without it.
	ctx := context.Background()
	_, err := s.client.exchangeWith(ctx, call{"POST", "/tasks/batch", body, &answer}, isRepeatable, callTimeout, prefer)
	var refused *Error
	_ = errors.As(err, &refused)
	switch {
	case err == nil && len(answer.Tasks) == len(group):
		for index, one := range group {
			one.task = answer.Tasks[index]
			close(one.done)
		}
		if answer.Tasks[0].Type == "" {
			s.isOld.Store(true)
		}
	case refused != nil && concernsSome(refused):
		s.sendApart(group, refused)
	default:
		for _, one := range group {
			one.err = err
			close(one.done)
		}
	}
}

// concernsSome says whether the refusal of a shared call may concern only some of its tasks. None was accepted.
func concernsSome(refused *Error) bool {
	switch refused.Status {
	case 400, 404, 405, 409, 413:
		return true
	}
	return refused.Code == "queue_full"
}

var placeIn = regexp.MustCompile(`^tasks\[(\d+)\]`)

// sendApart lets those that the refusal names get their own, and sends the others together again.
func (s *submissions) sendApart(group []*submission, refused *Error) {
	named := map[int]bool{}
	for _, field := range refused.Errors {
		if match := placeIn.FindStringSubmatch(field.Path); match != nil {
			place, _ := strconv.Atoi(match[1])
			named[place] = true
		}
	}
	others := []*submission{}
	for index, one := range group {
		if len(named) > 0 && !named[index] {
			others = append(others, one)
			continue
		}
		one.isAlone = true
		close(one.done)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	kind := group[0].kind
	s.keep(kind, append(others, s.waiting[kind]...))
}
