package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// answerTimeout is how long a node may think before it begins to answer.
// Streams begin when there is something to tell.
const answerTimeout = time.Minute

// ErrNoNode says that no node answers on the control socket.
var ErrNoNode = errors.New("no node answers")

// Client asks a node. It may be used from several goroutines.
type Client struct {
	path    string
	asking  *http.Client
	streams *http.Client
}

// NewClient makes a client for the node on a socket. Nothing is opened before
// the first question.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	}
	return &Client{
		path:    path,
		asking:  &http.Client{Transport: &http.Transport{DialContext: dial, ResponseHeaderTimeout: answerTimeout}},
		streams: &http.Client{Transport: &http.Transport{DialContext: dial}},
	}
}

// Close gives up idle connections.
func (c *Client) Close() {
	c.asking.CloseIdleConnections()
	c.streams.CloseIdleConnections()
}

// request is one question.
type request struct {
	path  string
	query url.Values
	body  any // nil: this is a GET
	post  bool
}

// do sends a request. An answer that is none is an error in the node's words.
func (c *Client) do(ctx context.Context, via *http.Client, q request) (*http.Response, error) {
	method, payload := http.MethodGet, io.Reader(nil)
	if q.post {
		method = http.MethodPost
	}
	if q.body != nil {
		text, err := json.Marshal(q.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.path, err)
		}
		payload = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: "appliance", Path: fmt.Sprintf("/v%d/%s", Version, q.path), RawQuery: q.query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.path, err)
	}
	answer, err := via.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		return nil, faultOf(answer)
	}
	return answer, nil
}

// unreachable puts in words why there was no answer at all.
func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w on %s: there is no such socket; is it running, with this control socket?", ErrNoNode, c.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s: the node that made this socket is gone", ErrNoNode, c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("control socket %s: permission denied; ask as root, or as a member of [system] control_group", c.path)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("%w on %s: %w", ErrNoNode, c.path, err)
}

// faultOf reads the error that a node answered with.
func faultOf(answer *http.Response) error {
	var f fault
	text, err := io.ReadAll(io.LimitReader(answer.Body, bodyBytesMax))
	if err != nil {
		return fmt.Errorf("%s: %w", answer.Status, err)
	}
	if err := json.Unmarshal(text, &f); err != nil || f.Error == "" {
		return fmt.Errorf("the node answers %s", answer.Status)
	}
	return errors.New(f.Error)
}

// ask gets one document.
func ask[T any](ctx context.Context, c *Client, q request) (T, error) {
	var v T
	answer, err := c.do(ctx, c.asking, q)
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&v); err != nil {
		return v, c.broken(ctx, err)
	}
	return v, nil
}

// list gets a list, row by row, until each fails.
func list[T any](ctx context.Context, c *Client, q request, each func(*T) error) error {
	answer, err := c.do(ctx, c.asking, q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	d := json.NewDecoder(answer.Body)
	if _, err := d.Token(); err != nil {
		return c.broken(ctx, err)
	}
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return c.broken(ctx, err)
		}
		if err := each(&v); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// all gets a whole list.
func all[T any](ctx context.Context, c *Client, q request) ([]T, error) {
	out := []T{}
	err := list(ctx, c, q, func(v *T) error {
		out = append(out, *v)
		return nil
	})
	return out, err
}

// follow gets a stream, line by line, until each fails or ctx ends, which is
// no error.
func follow[T any](ctx context.Context, c *Client, q request, each func(*T) error) error {
	answer, err := c.do(ctx, c.streams, q)
	if err != nil {
		return ended(ctx, err)
	}
	defer answer.Body.Close()
	for d := json.NewDecoder(answer.Body); ; {
		var v T
		err := d.Decode(&v)
		if err == io.EOF {
			break
		}
		if err != nil {
			return ended(ctx, c.broken(ctx, err))
		}
		if err := each(&v); err != nil {
			return err
		}
	}
	if text := answer.Trailer.Get(faultTrailer); text != "" {
		return errors.New(text)
	}
	return nil
}

// ended makes nothing of an error that the caller's own end has caused.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// broken is the error of an answer that stops in the middle.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the node on %s stopped in the middle of its answer: %w", c.path, err)
}
