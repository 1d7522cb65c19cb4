package control

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"tandem/appliance/status"
)

// flushEvery is how long a line of a stream waits at most for company.
const flushEvery = 20 * time.Millisecond

// stream writes NDJSON: a line at once if there was a pause before it, else
// together with those that follow within flushEvery.
type stream struct {
	w      http.ResponseWriter
	reader *patient

	mu      sync.Mutex // guards all below: the timer writes too
	out     *bufio.Writer
	enc     *json.Encoder
	begun   bool
	ended   bool
	flushed time.Time
	timer   *time.Timer
	err     error // of writing: the reader is gone
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, reader: newPatient(w)}
	s.out = bufio.NewWriterSize(s.reader, 32<<10)
	s.enc = json.NewEncoder(s.out)
	return s
}

// begin sends the header, after which a fault can only go into the trailer.
func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-ndjson")
		s.w.Header().Set("Trailer", faultTrailer)
		s.w.WriteHeader(http.StatusOK)
	}
}

// open sends the header before there is a line.
func (s *stream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.flush()
}

// emit writes one line; false: nobody reads any more.
func (s *stream) emit(v any) bool {
	complete(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended {
		return false
	}
	s.begin()
	if s.err = s.enc.Encode(v); s.err != nil {
		return false
	}
	switch {
	case time.Since(s.flushed) >= flushEvery:
		s.flush()
	case s.timer == nil:
		s.timer = time.AfterFunc(flushEvery, s.late)
	}
	return s.err == nil
}

// late flushes what came too soon after other lines.
func (s *stream) late() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	if !s.ended {
		s.flush()
	}
}

func (s *stream) flush() {
	if s.err == nil {
		s.err = s.out.Flush()
	}
	if s.err == nil {
		s.err = s.reader.flush()
	}
	s.flushed = time.Now()
}

// end sends what is left, and what went wrong.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if err != nil && !s.begun {
		refuseError(s.w, err)
		return
	}
	s.begin()
	if s.err == nil {
		s.err = s.out.Flush()
	}
	if err != nil {
		s.w.Header().Set(faultTrailer, oneLine(err.Error()))
	}
}

// oneLine keeps a text fit for a header.
func oneLine(text string) string {
	b := []byte(text)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}

// log answers with the node's log, or the firewall's; since leaves out what is
// older, follow goes on with what comes.
func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	since, err := moment(r, "since")
	if err != nil {
		refuseError(w, err)
		return
	}
	firewall := flag(r, "firewall")
	switch {
	case !flag(r, "follow") && firewall:
		writeList(w, s.cfg.Node.Packets(since))
	case !flag(r, "follow"):
		writeList(w, s.cfg.Node.Events(since))
	default:
		s.follow(w, r, since, firewall)
	}
}

// follow streams one of the logs. It listens first and looks back then, so
// that no line falls between; lines that are in both are shown once.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, since time.Time, firewall bool) {
	events, packets, stop, err := s.cfg.Node.Watch(firewall)
	if err != nil {
		refuseError(w, err)
		return
	}
	defer stop()
	out := newStream(w)
	defer out.end(nil)
	out.open()
	if firewall {
		pour(out, r, s.cfg.Node.Packets(since), packets, func(p *status.Packet) string { return p.ID })
		return
	}
	pour(out, r, s.cfg.Node.Events(since), events, func(e *status.Event) string {
		return fmt.Sprint(e.Time.UnixNano(), e.Source, e.Message)
	})
}

// pour writes what was, then what comes, without the overlap of the two. Both
// are in the order in which they happened, so the overlap is the end of the
// one and the beginning of the other.
func pour[T any](out *stream, r *http.Request, past []T, live <-chan T, key func(*T) string) {
	shown := make(map[string]bool)
	for i := range past {
		shown[key(&past[i])] = true
		if !out.emit(&past[i]) {
			return
		}
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case v, ok := <-live:
			if !ok {
				return
			}
			if shown != nil && shown[key(&v)] {
				continue
			}
			shown = nil
			if !out.emit(&v) {
				return
			}
		}
	}
}

func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	out := newStream(w)
	out.end(s.cfg.Node.Capture(r.Context(), r.FormValue("interface"), r.FormValue("expression"),
		func(f status.Frame) bool { return out.emit(&f) }))
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	q, err := body[status.PingRequest](w, r)
	if err != nil {
		refuseError(w, err)
		return
	}
	out := newStream(w)
	out.end(s.cfg.Node.Ping(r.Context(), q, func(p status.Probe) { out.emit(&p) }))
}

func (s *Server) traceroute(w http.ResponseWriter, r *http.Request) {
	q, err := body[status.TraceRequest](w, r)
	if err != nil {
		refuseError(w, err)
		return
	}
	out := newStream(w)
	out.end(s.cfg.Node.Traceroute(r.Context(), q, func(p status.Probe) { out.emit(&p) }))
}
