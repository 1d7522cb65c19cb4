package neigh

// Counter names one thing that a port counts.
type Counter uint8

// The counters of a port.
const (
	AsksSent                Counter = iota // requests and solicitations for unknown neighbours
	AsksDelayed                            // ... that waited for the rate to allow them
	AsksWithoutSource                      // ... not sent: no own address to ask from
	RefreshesSent                          // asks to a known neighbour's own address
	AnswersSent                            // for own and held addresses
	AnswersReceived                        // to asks of ours
	NeighboursResolved                     // entries made
	NeighboursUnreachable                  // questions and refreshes nobody answered
	NeighboursChanged                      // entries whose MAC was replaced
	ChangesLimited                         // claims of a new MAC within a second of the last change
	EntriesEvicted                         // for lack of room
	QuestionsRefused                       // no room to ask
	QuestionsDisplaced                     // given up early to make room
	UnaskedIgnored                         // answers nobody asked for, about unknown neighbours
	ARPMalformed                           // no Ethernet/IPv4 ARP, or an odd operation
	NDMalformed                            // fails RFC 4861, sections 7.1.1 and 7.1.2
	BadSender                              // sender's address or MAC is no station's
	Echoes                                 // frames of our own that came back
	RedirectsIgnored                       // ICMPv6 redirects
	RouterAdvertsIgnored                   // advertisements of other routers
	Conflicts                              // claims on own or held addresses by another MAC
	SecondMaster                           // claims on a held address with its own virtual MAC
	DefencesSent                           // announcements in answer to a conflict
	AnnouncementsSent                      // on taking an address, and repeats
	AnnouncementsNotAllowed                // asked to announce what is not held
	ProbesSent                             // for own addresses before use
	counters
)

var counterNames = [counters]string{
	AsksSent:                "asks-sent",
	AsksDelayed:             "asks-delayed",
	AsksWithoutSource:       "asks-without-source",
	RefreshesSent:           "refreshes-sent",
	AnswersSent:             "answers-sent",
	AnswersReceived:         "answers-received",
	NeighboursResolved:      "neighbours-resolved",
	NeighboursUnreachable:   "neighbours-unreachable",
	NeighboursChanged:       "neighbours-changed",
	ChangesLimited:          "changes-limited",
	EntriesEvicted:          "entries-evicted",
	QuestionsRefused:        "questions-refused",
	QuestionsDisplaced:      "questions-displaced",
	UnaskedIgnored:          "unasked-ignored",
	ARPMalformed:            "arp-malformed",
	NDMalformed:             "nd-malformed",
	BadSender:               "bad-sender",
	Echoes:                  "echoes",
	RedirectsIgnored:        "redirects-ignored",
	RouterAdvertsIgnored:    "router-adverts-ignored",
	Conflicts:               "conflicts",
	SecondMaster:            "second-master",
	DefencesSent:            "defences-sent",
	AnnouncementsSent:       "announcements-sent",
	AnnouncementsNotAllowed: "announcements-not-allowed",
	ProbesSent:              "probes-sent",
}

// String is the counter's stable name, in kebab case.
func (c Counter) String() string { return name(counterNames[:], int(c)) }

// Counts are the values of a port's counters, by [Counter].
type Counts [counters]uint64

// Counts returns the counters of port id; all zero if there is none.
func (t *Table) Counts(id uint16) Counts {
	p := t.port(id)
	if p == nil {
		return Counts{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}
