package config

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says whether a document may be used in spite of a problem.
type Severity uint8

const (
	Error Severity = iota
	Warning
)

// String is the word that stands before a warning.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// A Problem is one thing wrong with a document, in the operator's terms.
type Problem struct {
	Severity Severity
	File     string
	Line     int    // from 1
	Key      string // "virtual_ips[0].address"; empty: the whole file
	Text     string // what is wrong, what would be right
}

// String is the line that `appliance check` prints.
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d: ", p.File, p.Line)
	if p.Key != "" {
		s += p.Key + ": "
	}
	if p.Severity == Warning {
		s += "warning: "
	}
	return s + p.Text
}

// HasErrors says whether one of the problems forbids the use of the document.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// sortProblems orders them as a reader meets them, and drops repetitions.
func sortProblems(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Severity, b.Severity))
	})
	return slices.Compact(problems)
}
