package node

import (
	"fmt"
	"time"

	"tandem/appliance/status"
)

const (
	sinkQueue = 1024 // lines that wait for a sink
	// sinkCloseMax is how long a closing node waits for the last of them.
	sinkCloseMax = time.Second
)

// sink hands lines of the log to somebody outside.
type sink struct {
	to    func(status.Event)
	lines chan status.Event // nil: handed over at once
	lost  int               // since the last line that was not
	stop  chan struct{}
	done  chan struct{}
}

// newSink returns a sink that begins with the lines of the past.
func newSink(to func(status.Event), past []status.Event, apart bool) *sink {
	s := &sink{to: to}
	if !apart {
		for _, ev := range past {
			to(ev)
		}
		return s
	}
	s.lines, s.stop, s.done = make(chan status.Event, sinkQueue), make(chan struct{}), make(chan struct{})
	go s.run(past)
	return s
}

// take hands a line over, or queues it; the caller holds the log's lock.
func (s *sink) take(ev status.Event) {
	if s.lines == nil {
		s.to(ev)
		return
	}
	if s.lost > 0 {
		lost := status.Event{Time: ev.Time, Level: "warn", Source: "log",
			Message: fmt.Sprintf("%d lines of the log were lost: who takes them is too slow", s.lost)}
		select {
		case s.lines <- lost:
			s.lost = 0
		default:
		}
	}
	select {
	case s.lines <- ev:
	default:
		s.lost++
	}
}

func (s *sink) run(past []status.Event) {
	defer close(s.done)
	for _, ev := range past {
		s.to(ev)
	}
	for {
		select {
		case ev := <-s.lines:
			s.to(ev)
			continue
		default:
		}
		select {
		case ev := <-s.lines:
			s.to(ev)
		case <-s.stop:
			if len(s.lines) == 0 {
				return
			}
		}
	}
}

// end says that no more lines come.
func (s *sink) end() {
	if s.lines != nil {
		close(s.stop)
	}
}

// close hands over what waits, and gives up on a sink that blocks.
func (s *sink) close() {
	s.end()
	if s.lines == nil {
		return
	}
	select {
	case <-s.done:
	case <-time.After(sinkCloseMax):
	}
}

// close ends the log's sink; lines that come later are only kept.
func (e *events) close() {
	e.mu.Lock()
	s := e.sink
	e.sink = nil
	e.mu.Unlock()
	if s != nil {
		s.close()
	}
}
