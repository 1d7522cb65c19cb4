package control

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"tandem/appliance/status"
)

// routes lists everything that can be asked, and what answers.
func (s *Server) routes() http.Handler {
	n := s.cfg.Node
	mux := http.NewServeMux()
	read := func(path string, h http.HandlerFunc) { mux.HandleFunc(fmt.Sprintf("GET /v%d/%s", Version, path), h) }
	change := func(path string, h http.HandlerFunc) {
		mux.HandleFunc(fmt.Sprintf("POST /v%d/%s", Version, path), h)
	}
	mux.HandleFunc("/", unknown)

	read("status", one(func(*http.Request) (status.Node, error) { return n.Status(), nil }))
	read("carp", one(func(*http.Request) (status.CARP, error) { return n.CARP(), nil }))
	read("carp/scan", one(func(r *http.Request) (status.Scan, error) { return n.Scan(r.FormValue("interface")) }))
	read("states", many(func(r *http.Request) []status.State { return n.States(r.FormValue("filter")) }))
	read("states/count", one(func(*http.Request) (status.StateCount, error) { return n.StateCount(), nil }))
	read("rules", many(func(r *http.Request) []status.Rule { return n.Rules(flag(r, "all")) }))
	read("nat", many(func(*http.Request) []status.Translation { return n.NAT() }))
	read("nat/toml", one(func(*http.Request) (natAnswer, error) { return natAnswer{n.NATText()}, nil }))
	read("arp", many(func(*http.Request) []status.Neighbour { return n.ARP() }))
	read("routes", many(func(*http.Request) []status.Route { return n.Routes() }))
	read("interfaces", many(func(*http.Request) []status.Interface { return n.Interfaces() }))
	read("log", s.log)
	read("capture", s.capture)
	change("ping", s.ping) // They carry a body, and change nothing.
	change("traceroute", s.traceroute)

	change("carp/enable", s.switchCARP(true))
	change("carp/disable", s.switchCARP(false))
	change("carp/maintenance", s.maintenance)
	change("carp/reset-demotion", s.resetDemotion)
	change("states/kill", s.killStates)
	change("arp/delete", s.deleteARP)
	change("reload", s.reload)
	return mux
}

// flag reads a yes or no from the query.
func flag(r *http.Request, name string) bool {
	on, err := strconv.ParseBool(r.FormValue(name))
	return err == nil && on
}

// moment reads a time from the query; zero if there is none.
func moment(r *http.Request, name string) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, &refusal{http.StatusBadRequest, fmt.Sprintf("%s %q is no time of RFC 3339", name, text)}
	}
	return t, nil
}

// one answers with one document.
func one[T any](get func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := get(r)
		if err != nil {
			refuseError(w, err)
			return
		}
		say(w, &v)
	}
}

// say writes one document.
func say(w http.ResponseWriter, v any) {
	complete(v)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(newPatient(w)).Encode(v) // The reader may be gone.
}

// many answers with a list, row by row: a million states need not stand in
// memory as text.
func many[T any](get func(*http.Request) []T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { writeList(w, get(r)) }
}

func writeList[T any](w http.ResponseWriter, rows []T) {
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(newPatient(w), 64<<10)
	enc := json.NewEncoder(out)
	sep := "["
	for i := range rows {
		complete(&rows[i])
		if _, err := out.WriteString(sep); err != nil {
			return // The reader is gone.
		}
		if err := enc.Encode(&rows[i]); err != nil {
			return
		}
		sep = ","
	}
	if len(rows) == 0 {
		_, _ = out.WriteString("[") // Flush reports what goes wrong.
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush() // The reader may be gone.
}

// note keeps who changed what.
func (s *Server) note(r *http.Request, format string, args ...any) {
	if s.cfg.Note == nil {
		return
	}
	peer, _ := r.Context().Value(peerKey{}).(Peer)
	s.cfg.Note(peer, fmt.Sprintf(format, args...))
}

// done is the answer to a change that has nothing to tell.
func done(w http.ResponseWriter) { say(w, &struct{}{}) }

func (s *Server) switchCARP(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.cfg.Node.SetEnabled(on)
		s.note(r, "CARP switched %s", onOff(on))
		done(w)
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (s *Server) maintenance(w http.ResponseWriter, r *http.Request) {
	q, err := body[maintenanceRequest](w, r)
	if err == nil {
		err = s.cfg.Node.SetMaintenance(q.On)
	}
	if err != nil {
		refuseError(w, err)
		return
	}
	s.note(r, "maintenance mode switched %s", onOff(q.On))
	done(w)
}

func (s *Server) resetDemotion(w http.ResponseWriter, r *http.Request) {
	s.cfg.Node.ResetDemotion()
	s.note(r, "demotion reset")
	done(w)
}

func (s *Server) killStates(w http.ResponseWriter, r *http.Request) {
	q, err := body[killRequest](w, r)
	if err != nil {
		refuseError(w, err)
		return
	}
	killed := s.cfg.Node.KillStates(q.Filter)
	s.note(r, "states that match %q killed: %d", q.Filter, killed)
	say(w, &killAnswer{killed})
}

func (s *Server) deleteARP(w http.ResponseWriter, r *http.Request) {
	q, err := body[deleteRequest](w, r)
	if err != nil {
		refuseError(w, err)
		return
	}
	addr, err := netip.ParseAddr(q.Address)
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is no address", q.Address))
		return
	}
	s.cfg.Node.DeleteARP(addr)
	s.note(r, "neighbour %v deleted", addr)
	done(w)
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Reload == nil {
		refuse(w, http.StatusUnprocessableEntity, "this node has no file to read again")
		return
	}
	out := s.cfg.Reload(r.Context())
	if out.Applied {
		s.note(r, "configuration reloaded: %d changes", len(out.Changed))
	} else {
		s.note(r, "configuration not reloaded: %d problems", len(out.Problems))
	}
	say(w, &out)
}
