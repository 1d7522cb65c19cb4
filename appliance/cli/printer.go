package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// style is how a word is shown on a terminal (ECMA-48, SGR).
type style string

const (
	plain  style = ""
	bold   style = "1"
	good   style = "32"
	second style = "36"
	warn   style = "33"
	bad    style = "1;31"
	faint  style = "2"
)

// printer writes answers for people. Errors of writing are kept for flush.
type printer struct {
	*bufio.Writer
	colour bool
	now    time.Time
}

func newPrinter(w io.Writer, colour bool, now time.Time) *printer {
	return &printer{bufio.NewWriterSize(w, 32<<10), colour, now}
}

func (p *printer) flush() error { return p.Flush() }

func (p *printer) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// paint puts a style around a text where there are colours.
func (p *printer) paint(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

// table gathers rows and prints them in columns as wide as they must be.
// Unlike text/tabwriter it knows that colours have no width.
type table struct {
	head  []string // a name that begins with ">" is of a column of numbers
	rows  [][]cell
	ahead string // stands before each line
}

func newTable(head ...string) *table { return &table{head: head} }

// row adds a row; a value is a cell, or shown as fmt does.
func (t *table) row(values ...any) {
	cells := make([]cell, len(values))
	for i, v := range values {
		if c, ok := v.(cell); ok {
			cells[i] = c
		} else {
			cells[i] = cell{text: fmt.Sprint(v)}
		}
	}
	t.rows = append(t.rows, cells)
}

// print writes the table, or "none". Columns without any value are left out.
func (t *table) print(p *printer) {
	if len(t.rows) == 0 {
		p.printf("none\n")
		return
	}
	widths := t.widths()
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{strings.TrimPrefix(h, ">"), faint}
		if widths[i] > 0 {
			widths[i] = max(widths[i], utf8.RuneCountInString(head[i].text))
		}
	}
	t.line(p, head, widths)
	t.lines(p, widths)
}

// bare writes the rows without the head.
func (t *table) bare(p *printer) { t.lines(p, t.widths()) }

// widths are those of the widest values; 0 where a column has none.
func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	return widths
}

func (t *table) lines(p *printer, widths []int) {
	for _, r := range t.rows {
		t.line(p, r, widths)
	}
}

func (t *table) line(p *printer, cells []cell, widths []int) {
	var b strings.Builder
	b.WriteString(t.ahead)
	gap := 0
	for i, c := range cells {
		if widths[i] == 0 {
			continue
		}
		room := widths[i] - utf8.RuneCountInString(c.text)
		if strings.HasPrefix(t.head[i], ">") {
			gap, room = gap+room, 0
		}
		if c.text != "" {
			b.WriteString(strings.Repeat(" ", gap))
			b.WriteString(p.paint(c.style, c.text))
			gap = 0
		}
		gap += room + 2
	}
	p.printf("%s\n", b.String())
}

// duration shows a length of time in its two largest units.
func duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// seconds is duration of what JSON has in seconds.
func seconds(s float64) string { return duration(time.Duration(s * float64(time.Second))) }

// ago is how long something has lasted; "" for never.
func (p *printer) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration(p.now.Sub(t))
}

// size shows bytes in the largest unit that leaves a digit before the point.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 999.5 && unit < 6 {
		v /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %cB", v, " kMGTPE"[unit])
}

// count shows a number in groups of three digits.
func count[T int | int64 | uint64](n T) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural is "1 rule", "2 rules".
func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return count(n) + " " + word
}

// clock shows a moment to the millisecond.
func (p *printer) clock(t time.Time) string {
	return t.In(p.now.Location()).Format("2006-01-02 15:04:05.000")
}
