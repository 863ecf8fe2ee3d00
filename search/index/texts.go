package index

import (
	"math"

	"muster"
	"muster/search/query"
)

// Score scores texts that this index does not hold, in the order given, as it
// would if they were among the documents that sums counts. Text alone is scored:
// whether a text matches, who found it has decided. A text that was cut has no
// content key.
func (x *Index) Score(sq muster.ShardQuery, sums muster.ShardStats, hits []muster.Hit, contentLength int) ([]muster.ShardHit, error) {
	q, err := query.Parse(sq.Text)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(x.analyzer, q.Resolve(sums.Keys), sq)
	if err != nil {
		return nil, err
	}
	scorers := p.scorers(sums)
	out := make([]muster.ShardHit, 0, len(hits))
	for _, h := range hits {
		t := x.text(h)
		h.Score = 0
		for _, s := range scorers {
			h.Score += t.score(s)
		}
		scored := muster.ShardHit{Hit: h}
		if !h.Truncated {
			scored.ContentKey = contentKey(h.Content)
		}
		short, cutHere := cut(h.Content, contentLength)
		scored.Content, scored.Truncated = short, h.Truncated || cutHere
		out = append(out, scored)
	}
	return out, nil
}

// scorer is a term that adds to scores, with its statistics.
type scorer struct {
	term
	scale
}

// scorers are the terms of a plan that score, in the order of the query.
func (p plan) scorers(sums muster.ShardStats) (list []scorer) {
	for _, t := range p.terms {
		if t.qtf > 0 {
			list = append(list, scorer{t, t.scale(sums)})
		}
	}
	return list
}

// text is the terms of one document by field, and their number.
type text struct {
	freq   map[string]map[string]int
	length map[string]int
}

func (x *Index) text(h muster.Hit) text {
	t := text{freq: map[string]map[string]int{}, length: map[string]int{}}
	for field, value := range map[string]string{fieldTitle: h.Title, fieldContent: h.Content} {
		for _, token := range x.analyzer.Analyze([]byte(nfc(value))) {
			for _, f := range []string{field, fieldAll} {
				if t.freq[f] == nil {
					t.freq[f] = map[string]int{}
				}
				t.freq[f][string(token.Term)]++
				t.length[f]++
			}
		}
	}
	return t
}

func (t text) score(s scorer) float64 {
	tf := t.freq[s.field][s.text]
	if tf == 0 {
		return 0
	}
	return s.of(s.qtf, float64(tf), float64(t.length[s.field]))
}

// scale is what statistics make of a term.
type scale struct{ idf, avgdl, weight float64 }

func (t term) scale(sums muster.ShardStats) scale {
	n, df := float64(sums.Docs), float64(sums.DF[t.field][t.text])
	s := scale{idf: math.Log(1 + (n-df+0.5)/(df+0.5)), avgdl: float64(sums.Tokens[t.field]) / n, weight: 1}
	if t.field == fieldTitle {
		s.weight = titleWeight
	}
	return s
}

// of is what a term adds that is tf times in a field of dl tokens. The
// conversion keeps compilers from fusing multiplication and addition, which
// would make the last bit depend on the processor, and ties with it.
func (s scale) of(qtf int, tf, dl float64) float64 {
	return s.weight * float64(qtf) * s.idf * tf / (tf + float64(k1*(1-b+float64(b*dl/s.avgdl))))
}
