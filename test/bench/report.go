// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"
)

//go:embed page.md
var pageText string

// machine is what the results depend on.
type machine struct {
	date                            time.Time
	cores                           int
	platform, goVersion, kubernetes string
}

// chapter is a scenario's part of the page.
type chapter struct {
	title, body string
}

// page renders the whole page.
func page(b *bench, took time.Duration, chapters []chapter) string {
	m := b.machine
	facts := table{header: []string{"What", "This run"}}
	facts.add("Date", m.date.Format(time.DateOnly))
	facts.add("Cores, shared by everything", fmt.Sprint(m.cores))
	facts.add("Platform", m.platform)
	facts.add("Go", m.goVersion)
	facts.add("Kubernetes", m.kubernetes)
	facts.add("Rounds of each side", fmt.Sprint(b.rounds))
	facts.add("Rounds made again because something else kept the machine busy", fmt.Sprint(b.again))
	facts.add("Disturbed rounds that count all the same", fmt.Sprint(b.disturbed))
	facts.add("Duration", took.Round(time.Second).String())
	var text strings.Builder
	text.WriteString(strings.Replace(strings.TrimSpace(pageText), "FACTS", strings.TrimSpace(facts.markdown()), 1))
	for _, c := range chapters {
		fmt.Fprintf(&text, "\n\n## %s\n\n%s", c.title, strings.TrimSpace(c.body))
	}
	return text.String() + "\n"
}

// renderChapter fills a scenario's results into its text.
func renderChapter(title, text string, results map[string]any) (chapter, error) {
	t, err := template.New(title).Option("missingkey=error").Parse(text)
	if err != nil {
		return chapter{}, fmt.Errorf("reading the text of %q: %w", title, err)
	}
	var body strings.Builder
	if err := t.Execute(&body, results); err != nil {
		return chapter{}, fmt.Errorf("writing %q: %w", title, err)
	}
	return chapter{title: title, body: body.String()}, nil
}

// table is a table of Markdown.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// markdown renders the table: the first column says what the numbers in the others are.
func (t *table) markdown() string {
	var text strings.Builder
	line := func(cells []string) { fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.header)
	text.WriteString("|---|" + strings.Repeat("---:|", len(t.header)-1) + "\n")
	for _, row := range t.rows {
		line(row)
	}
	return text.String()
}

// String says in a line what came out.
func (c comparison) String() string {
	return fmt.Sprintf("operator %.0f/s, raw %.0f/s, ratios %.2f, median %.2f, of CPU %.2f, the manager's CPU %.2f ms",
		rates(c.operator), rates(c.raw), c.ratios(), c.ratio(), c.cpuRatio(), perOperation(c.operator, ofManager))
}

// rounded shows three digits.
func rounded(value float64) string {
	switch {
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}

func milliseconds(value float64) string { return fmt.Sprintf("%.2f", value) }

// judged shows a value with an aim, in bold where it misses it.
func judged(value float64, reached bool) string {
	return marked(fmt.Sprintf("%.2f", value), reached)
}

// marked shows a number with an aim as it is written, in bold where it misses the aim.
func marked(number string, reached bool) string {
	if reached {
		return number
	}
	return "**" + number + "**"
}
