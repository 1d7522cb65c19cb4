package config

import (
	"slices"
	"testing"
)

// menu is a file of another kind.
type menu struct {
	Title  string `toml:"title,required"`
	Dishes []struct {
		Entry
		Price int      `toml:"price,required"`
		With  []string `toml:"with"`
	} `toml:"dishes"`
}

func TestDecodeReadsOtherFilesByTheSameRules(t *testing.T) {
	var m menu
	_, problems := Decode("menu.toml", []byte("title = \"today\"\n[dishes.soup]\nprice = 3\n[dishes.pie]\nprice = 5\nwith = [\"salad\"]\n"), &m)
	if len(problems) > 0 || m.Title != "today" || len(m.Dishes) != 2 || m.Dishes[0].Name != "soup" || m.Dishes[1].With[0] != "salad" {
		t.Errorf("read as %+v, %v", m, problems)
	}
}

func TestDecodeNamesEachFaultWithItsLine(t *testing.T) {
	var m menu
	f, problems := Decode("menu.toml", []byte("[dishes.soup]\nprize = 3\nwith = 7\n"), &m)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	want := []string{
		"menu.toml:1: title: is required and not given; add title = ...",
		"menu.toml:1: dishes.soup.price: is required and not given; add price = ...",
		"menu.toml:2: dishes.soup.prize: unknown key (did you mean \"price\"?)",
		"menu.toml:3: dishes.soup.with: 7 is no list; put it in brackets",
	}
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("faults:\n%q\nwant\n%q", lines, want)
	}
	if p := f.Problem(Warning, "dishes.soup.with", "is dull"); p.String() != "menu.toml:3: dishes.soup.with: warning: is dull" {
		t.Errorf("%v", p)
	}
	if f, problems := Decode("menu.toml", []byte("title = \n"), &m); f != nil || len(problems) != 1 || problems[0].Line != 1 {
		t.Errorf("no TOML: %v", problems)
	}
}
