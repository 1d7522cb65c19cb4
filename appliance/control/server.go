package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	headerBytesMax = 16 << 10
	bodyBytesMax   = 64 << 10
	headerTimeout  = 5 * time.Second
	bodyTimeout    = 10 * time.Second
	// writeTimeout is how long a reader may leave what it asked for untaken.
	writeTimeout = 10 * time.Second
	idleTimeout  = time.Minute
	// farewell is how long answers under way may take when the server closes.
	farewell = 300 * time.Millisecond
)

// Server answers on the control socket.
type Server struct {
	cfg  Config
	http *http.Server
	stop context.CancelFunc // ends what streams
}

// NewServer makes a server; [Server.Serve] starts it. A panic of the node in a
// request is answered and goes to log with its stack.
func NewServer(cfg Config, log *slog.Logger) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, stop: stop}
	s.http = &http.Server{
		Handler:           recovering(s.routes(), log),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			peer, err := peerOf(c)
			if err != nil {
				peer = Peer{UID: -1, PID: -1}
			}
			return context.WithValue(ctx, peerKey{}, peer)
		},
	}
	return s
}

// peerKey is where a request's context keeps its [Peer].
type peerKey struct{}

// Serve answers until Close. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close ends the server: what streams ends at once, other answers within
// farewell.
func (s *Server) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// recovering keeps a fault of one request to that request.
func recovering(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			log.Error("a request on the control socket failed; this is a fault of the program, please report it",
				"request", r.Method+" "+r.URL.Path, "fault", fmt.Sprint(fault), "stack", string(debug.Stack()))
			refuse(w, http.StatusInternalServerError, fmt.Sprintf("the node could not answer: %v; its log has more", fault))
		}()
		next.ServeHTTP(w, r)
	})
}

// unknown answers for every path that is not served.
func unknown(w http.ResponseWriter, r *http.Request) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if digits, ok := strings.CutPrefix(first, "v"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n != Version {
			refuse(w, http.StatusNotFound, fmt.Sprintf("this node speaks version %d of the control protocol, and version %d was asked for; use the command line that came with the node, or upgrade the node", Version, n))
			return
		}
	}
	refuse(w, http.StatusNotFound, fmt.Sprintf("this node knows no %s %s; it may be older than the command line", r.Method, r.URL.Path))
}

// refuse answers with a fault.
func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(fault{text}) // The reader may be gone.
}

// refusal is an error that carries its status code.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

// refuseError answers with an error of the node, or of the request.
func refuseError(w http.ResponseWriter, err error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		refuse(w, r.code, r.text)
		return
	}
	refuse(w, http.StatusUnprocessableEntity, err.Error())
}

// body reads what a request carries into T. Keys that it does not know are
// refused: a change that is half understood is none.
func body[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var v T
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // Every connection here has deadlines.
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	d.DisallowUnknownFields()
	err := d.Decode(&v)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("something follows the document")
		}
	}
	_ = rc.SetReadDeadline(time.Time{}) // A stream may follow, which watches for the end of the connection.
	if err != nil {
		code := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			code = http.StatusRequestEntityTooLarge
		}
		return v, &refusal{code, fmt.Sprintf("the request is not understood: %v", err)}
	}
	return v, nil
}

// patient is a writer that gives the reader writeTimeout for each write.
type patient struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newPatient(w http.ResponseWriter) *patient {
	return &patient{w: w, rc: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// flush hands everything to the reader.
func (p *patient) flush() error {
	if err := p.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return p.rc.Flush()
}
