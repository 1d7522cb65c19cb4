package vnet

// event is something that happens at an instant of world time. It either calls
// fn, or lets a frame arrive at jack's switch or station.
type event struct {
	at   int64  // nanoseconds since Config.Start
	seq  uint64 // breaks ties: the order of asking
	slot int    // place in the heap, slotNone when not queued

	fn func()

	jack     *Jack
	epoch    uint32 // of the jack's link when the frame was sent
	data     []byte
	toSwitch bool

	clock *Clock // of a timer: whose time due is in
	due   int64
}

const slotNone = -1

// eventHeap is a binary heap of events, the earliest first.
type eventHeap []*event

func (h eventHeap) less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}

func (h eventHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}

func (h *eventHeap) push(e *event) {
	e.slot = len(*h)
	*h = append(*h, e)
	h.up(e.slot)
}

// remove takes e out of the heap, wherever it is.
func (h *eventHeap) remove(e *event) {
	i, last := e.slot, len(*h)-1
	if i != last {
		h.swap(i, last)
	}
	(*h)[last] = nil
	*h = (*h)[:last]
	if i != last {
		h.fix(i)
	}
	e.slot = slotNone
}

// fix restores the order after the event at i has changed its time.
func (h eventHeap) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h eventHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h eventHeap) down(i int) bool {
	from := i
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if right := child + 1; right < len(h) && h.less(right, child) {
			child = right
		}
		if !h.less(child, i) {
			break
		}
		h.swap(i, child)
		i = child
	}
	return i > from
}

// rebuild restores the order after any number of events changed their times.
func (h eventHeap) rebuild() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}
