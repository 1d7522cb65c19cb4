package router

import "sync"

// limiter bounds what hostile packets can make the node send: errors and
// resets, so many a second in all, with bursts.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	last   int64
}

const (
	errorsPerSecond = 200
	errorsBurst     = 50
)

func (l *limiter) init() { l.tokens = errorsBurst }

// take says whether one more may be sent at mono nanoseconds.
func (l *limiter) take(mono int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mono > l.last {
		l.tokens = min(errorsBurst, l.tokens+float64(mono-l.last)*errorsPerSecond/1e9)
		l.last = mono
	}
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
