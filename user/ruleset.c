// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "ruleset.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

enum {
	/* The kernel follows sixteen (NFT_JUMP_STACK_SIZE). */
	JUMPS_MAX = 16,
	/* enum nf_ip_hook_priorities: conntrack looks at packets here, notrack must have come before. */
	PRIORITY_CONNTRACK = -200,
	SELECTIONS_MAX = 256,
};

/* What a packet was asked on its way to a statement: bits of `why`. */
enum why {
	WHY_FLAGS = 1 << 0,  /* whether it is a SYN */
	WHY_NO_SYN = 1 << 1, /* whether it is an ACK, and no SYN */
	WHY_RATE = 1 << 2,
	WHY_RECENT = 1 << 3,
	WHY_NEW = 1 << 4,
	WHY_INVALID = 1 << 5,
	WHY_SOURCE = 1 << 6,
	WHY_FIELD = 1 << 7,
	WHY_UNKNOWN = 1 << 8,
	/* Whoever accepts by these has counted SYNs. Accepting some sources is harmless, unless the others
	 * are dropped. */
	WHY_MATTERS_ALWAYS = WHY_FLAGS | WHY_RATE | WHY_RECENT | WHY_UNKNOWN,
	WHY_MATTERS_LATER = WHY_SOURCE | WHY_FIELD,
	WHY_MATTERS_ON_DROP = WHY_MATTERS_ALWAYS | WHY_MATTERS_LATER | WHY_NO_SYN | WHY_NEW | WHY_INVALID,
};

/* ---- findings ---- */

static const struct {
	const char *reason, *remedy;
} kinds[RULE_KINDS] = {
	[RULE_FLAGS] = { "asks for TCP flags, and never sees the SYNs that the driver answers",
			 "let it ask for the port alone, or accept what is promoted by its mark (--mark)" },
	[RULE_RATE] = { "counts or limits packets, and never sees the SYNs that the driver answers: a "
			"flood "
			"passes it by, and clients that it drops hang",
			"take it off the port" },
	[RULE_RECENT] = { "keeps a list of recent sources, and never sees the SYNs that the driver answers",
			  "take it off the port" },
	[RULE_NEW] = { "drops what conntrack takes for new, as it does each connection whose SYN the "
		       "driver "
		       "has answered: clients hang",
		       "exempt the port from conntrack (notrack)" },
	[RULE_INVALID] = { "drops what conntrack takes for invalid, as it may a connection whose SYN the "
			   "driver has answered: clients hang",
			   "exempt the port from conntrack (notrack)" },
	[RULE_LOOSE] = { "makes conntrack take connections for invalid whose SYN it has not seen, as those "
			 "that the driver has answered",
			 "set it to 1, or exempt the port from conntrack (notrack)" },
	[RULE_SOURCE] = { "lets only some sources in, and never sees the SYNs that the driver answers: the "
			  "others connect and then hang",
			  "take it off the port" },
	[RULE_FIELD] = { "depends on a field of the SYN, which it never sees if the driver answers",
			 "take it off the port" },
	[RULE_QUEUE] = { "hands packets to a program (NFQUEUE), which is not safe for promoted segments",
			 "take it off the port" },
	[RULE_SYNPROXY] = { "answers SYNs itself (synproxy)", "take it off the port" },
	[RULE_NAT] = { "sends the port elsewhere", "leave the port out of --port" },
	[RULE_TPROXY] = { "sends the port to a proxy", "leave the port out of --port" },
	[RULE_NAT_CHAIN] = { "makes NAT look at all connections, and it lets go of those that the driver "
			     "has "
			     "answered: they are reset",
			     "exempt the port from conntrack (notrack)" },
	[RULE_LEGACY] = { "holds rules that cannot be read through nftables",
			  "move them to nftables (iptables-nft)" },
	[RULE_UNKNOWN] = { "asks or does what cannot be judged here", "take it off the port" },
	[RULE_ENDLESS] = { "has more jumps than can be followed", "check it yourself" },
};

const char *rule_reason(enum rule_kind kind)
{
	return kinds[kind].reason;
}

const char *rule_remedy(enum rule_kind kind)
{
	return kinds[kind].remedy;
}

void findings_free(struct rule_findings *findings)
{
	free(findings->list);
	memset(findings, 0, sizeof(*findings));
}

void findings_add(struct rule_findings *findings, enum rule_kind kind, const char *format, ...)
{
	struct rule_finding *list, *finding;
	va_list arguments;
	int length;

	list = realloc(findings->list, (findings->count + 1) * sizeof(*list));
	if (!list) {
		findings->short_of_memory = true;
		return;
	}
	findings->list = list;
	finding = &list[findings->count++];
	finding->kind = kind;
	va_start(arguments, format);
	length = vsnprintf(finding->rule, sizeof(finding->rule), format, arguments);
	va_end(arguments);
	if (length >= (int)sizeof(finding->rule))
		strcpy(finding->rule + sizeof(finding->rule) - 4, "...");
	/* Comments in rules may hold anything. */
	for (char *c = finding->rule; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

/* ---- the ruleset in order ---- */

enum hook {
	HOOK_INGRESS,
	HOOK_PREROUTING,
	HOOK_INPUT,
	HOOK_NONE, /* no base chain, or none on our way */
};

struct rule {
	const json_t *object;
	const json_t *statements;
	const char *text; /* as nft prints it, or NULL */
	bool found;	  /* reported already */
	struct rule *next;
};

struct chain {
	const char *family, *table, *name;
	enum hook hook;
	long long priority;
	bool nat;   /* its type */
	bool drops; /* its policy */
	const json_t *device;
	const char *declaration; /* its line in the text, which may name the devices, or NULL */
	struct rule *rules, **end;
};

struct index {
	const json_t *objects;
	json_t *texts;	/* "family table handle", "family table chain": lines of the text */
	json_t *chains; /* "family table chain": number in chain[] */
	json_t *sets;	/* "family table set": number in objects, of a set or map */
	struct chain *chain;
	size_t chain_count;
	struct rule *rule;
	bool uses_conntrack;
};

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

/* The only key of an object such as {"rule": {…}}, and what it holds. */
static const char *only_key(const json_t *object, const json_t **value)
{
	void *iterator = json_object_iter((json_t *)object);

	*value = iterator ? json_object_iter_value(iterator) : NULL;
	return iterator ? json_object_iter_key(iterator) : "";
}

static void set_name(char name[RULE_TEXT], const char *family, const char *table, const char *what)
{
	snprintf(name, RULE_TEXT, "%.15s %.79s %.127s", family, table, what);
}

static enum hook hook_of(const char *name)
{
	static const char *const names[] = { "ingress", "prerouting", "input" };

	for (int i = 0; i < HOOK_NONE; i++)
		if (!strcmp(name, names[i]))
			return i;
	return HOOK_NONE;
}

/* Notes a line of the text by what it is of. */
static void index_line(struct index *index, const char *family, const char *table, const char *what,
		       const char *line, size_t length)
{
	char name[RULE_TEXT];

	set_name(name, family, table, what);
	json_object_set_new(index->texts, name, json_stringn(line, length));
}

/*
 * Of `nft -a list ruleset`: tables begin in the first column, chains behind one tab, rules behind two and
 * end with their handle.
 */
static void index_text(struct index *index, const char *text)
{
	static const char mark[] = " # handle ";
	char family[16] = "", table[80] = "", chain[128] = "", handle[24];
	bool in_chain = false;

	for (; text && *text; text += strcspn(text, "\n"), text += *text == '\n') {
		size_t length = strcspn(text, "\n");
		const char *found = NULL;

		if (*text != '\t') {
			in_chain = false;
			sscanf(text, "table %15s %79s", family, table);
			continue;
		}
		if (text[1] != '\t') {
			in_chain = sscanf(text, "\tchain %127s", chain) == 1;
			continue;
		}
		if (!in_chain)
			continue;
		text += 2;
		length -= 2;
		for (const char *c = text; c + sizeof(mark) - 1 < text + length; c++)
			if (!strncmp(c, mark, sizeof(mark) - 1))
				found = c;
		if (found && sscanf(found, " # handle %23[0-9]", handle) == 1)
			index_line(index, family, table, handle, text, (size_t)(found - text));
		else if (!strncmp(text, "type ", 5))
			index_line(index, family, table, chain, text, length);
	}
}

static const char *indexed_text(const struct index *index, const char *family, const char *table,
				const char *what)
{
	char name[RULE_TEXT];

	set_name(name, family, table, what);
	return json_string_value(json_object_get(index->texts, name));
}

static void index_chain(struct index *index, const json_t *object)
{
	struct chain *chain = &index->chain[index->chain_count];
	char name[RULE_TEXT];

	chain->family = text_of(object, "family");
	chain->table = text_of(object, "table");
	chain->name = text_of(object, "name");
	chain->hook = hook_of(text_of(object, "hook"));
	chain->priority = json_integer_value(json_object_get(object, "prio"));
	chain->nat = !strcmp(text_of(object, "type"), "nat");
	chain->drops = !strcmp(text_of(object, "policy"), "drop");
	chain->device = json_object_get(object, "dev");
	chain->declaration = indexed_text(index, chain->family, chain->table, chain->name);
	chain->rules = NULL;
	chain->end = &chain->rules;
	set_name(name, chain->family, chain->table, chain->name);
	json_object_set_new(index->chains, name, json_integer((json_int_t)index->chain_count++));
}

static struct chain *find_chain(const struct index *index, const char *family, const char *table,
				const char *what)
{
	char name[RULE_TEXT];
	const json_t *number;

	set_name(name, family, table, what);
	number = json_object_get(index->chains, name);
	return number ? &index->chain[json_integer_value(number)] : NULL;
}

/* Whether something in there makes the kernel keep track of connections. */
static bool asks_conntrack(const json_t *value, int depth)
{
	static const char *const words[] = { "ct",	 "ct count", "ct helper",  "ct timeout", "dnat",
					     "redirect", "snat",     "masquerade", "synproxy" };
	static const char *const targets[] = { "conntrack", "state", "connmark", "CONNMARK",
					       "connlimit", "DNAT",  "REDIRECT", "SYNPROXY" };
	const char *key;
	const json_t *part;
	size_t i;

	if (depth > 32)
		return true;
	if (json_is_array(value)) {
		json_array_foreach ((json_t *)value, i, part)
			if (asks_conntrack(part, depth + 1))
				return true;
		return false;
	}
	if (!json_is_object(value))
		return false;
	for (i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (json_object_get(value, words[i]))
			return true;
	for (i = 0; i < sizeof(targets) / sizeof(*targets); i++)
		if (!strcmp(text_of(json_object_get(value, "xt"), "name"), targets[i]))
			return true;
	json_object_foreach((json_t *)value, key, part) if (asks_conntrack(part, depth + 1)) return true;
	return false;
}

static void index_rule(struct index *index, const json_t *object, struct rule *rule)
{
	const char *family = text_of(object, "family"), *table = text_of(object, "table");
	struct chain *chain = find_chain(index, family, table, text_of(object, "chain"));
	char handle[24];

	if (!chain)
		return;
	snprintf(handle, sizeof(handle), "%lld",
		 (long long)json_integer_value(json_object_get(object, "handle")));
	rule->object = object;
	rule->statements = json_object_get(object, "expr");
	rule->text = indexed_text(index, family, table, handle);
	rule->found = false;
	rule->next = NULL;
	*chain->end = rule;
	chain->end = &rule->next;
	index->uses_conntrack |= asks_conntrack(rule->statements, 0);
}

static void index_free(struct index *index)
{
	json_decref(index->texts);
	json_decref(index->chains);
	json_decref(index->sets);
	free(index->chain);
	free(index->rule);
}

static bool index_build(struct index *index, const json_t *ruleset, const char *text)
{
	const json_t *entry, *object;
	char name[RULE_TEXT];
	const char *key;
	size_t i;

	memset(index, 0, sizeof(*index));
	index->objects = json_object_get(ruleset, "nftables");
	if (!json_is_array(index->objects))
		return false;
	index->texts = json_object();
	index->chains = json_object();
	index->sets = json_object();
	index->chain = calloc(json_array_size(index->objects) + 1, sizeof(*index->chain));
	index->rule = calloc(json_array_size(index->objects) + 1, sizeof(*index->rule));
	if (!index->texts || !index->chains || !index->sets || !index->chain || !index->rule)
		return false;
	index_text(index, text);
	json_array_foreach ((json_t *)index->objects, i, entry) {
		key = only_key(entry, &object);
		if (!strcmp(key, "chain"))
			index_chain(index, object);
		if (strcmp(key, "set") && strcmp(key, "map"))
			continue;
		set_name(name, text_of(object, "family"), text_of(object, "table"),
			 text_of(object, "name"));
		json_object_set_new(index->sets, name, json_integer((json_int_t)i));
	}
	json_array_foreach ((json_t *)index->objects, i, entry) {
		key = only_key(entry, &object);
		if (!strcmp(key, "rule"))
			index_rule(index, object, &index->rule[i]);
	}
	return true;
}

/* ---- sets of packets ---- */

/* Packets to some ports: all of them if @certain, else some of each. */
struct packets {
	struct port_set ports;
	bool certain;
	unsigned int why;
};

static bool ports_empty(const struct port_set *set)
{
	for (int i = 0; i < PORT_WORDS; i++)
		if (set->word[i])
			return false;
	return true;
}

static void ports_add(struct port_set *set, const struct port_set *more)
{
	for (int i = 0; i < PORT_WORDS; i++)
		set->word[i] |= more->word[i];
}

static void ports_remove(struct port_set *set, const struct port_set *less)
{
	for (int i = 0; i < PORT_WORDS; i++)
		set->word[i] &= ~less->word[i];
}

static void ports_keep(struct port_set *set, const struct port_set *only)
{
	for (int i = 0; i < PORT_WORDS; i++)
		set->word[i] &= only->word[i];
}

static void ports_clear(struct port_set *set)
{
	memset(set, 0, sizeof(*set));
}

static bool ports_meet(const struct port_set *set, const struct port_set *other)
{
	for (int i = 0; i < PORT_WORDS; i++)
		if (set->word[i] & other->word[i])
			return true;
	return false;
}

static void ports_range(struct port_set *set, long long first, long long last)
{
	for (first = first < 0 ? 0 : first; first <= last && first < 65536; first++)
		port_set_add(set, (unsigned int)first);
}

static void packets_none(struct packets *packets)
{
	ports_clear(&packets->ports);
}

static void packets_some(struct packets *packets, unsigned int why)
{
	packets->certain = false;
	packets->why |= why;
}

static void packets_all_or_none(struct packets *packets, bool all)
{
	if (!all)
		packets_none(packets);
}

/* ---- walking ---- */

/* include/uapi/linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT(). */
enum ct_state {
	CT_INVALID = 1,
	CT_ESTABLISHED = 2,
	CT_RELATED = 4,
	CT_NEW = 8,
	CT_UNTRACKED = 64,
};

/* One chain on the way from a base chain to the rule that is looked at. */
struct frame {
	struct frame *up;
	bool certain;		  /* all that was to come here has */
	unsigned int why;	  /* of the jumps that led here */
	struct rule *cause;	  /* one of those jumps */
	struct port_set left;	  /* still on their way through this chain */
	struct port_set returned; /* on their way back from it */
	/* Have returned by what matters if the others come to something: "limit rate … return; drop". */
	struct port_set diverted;
	unsigned int diverted_why;
	struct rule *diverted_by;
};

/* Ports of which a rule accepts some packets, by their sources say: matters if the others are dropped. */
struct selection {
	struct selection *next;
	struct rule *rule;
	unsigned int why;
	struct port_set ports;
};

enum family {
	FAMILY_IPV4 = 1 << 0,
	FAMILY_IPV6 = 1 << 1,
};

struct walk {
	const struct ruleset_question *question;
	struct rule_findings *findings;
	struct index *index;
	const struct chain *base;
	bool ipv4;
	const char *device;
	/*
	 * What conntrack calls a connection whose SYN it has not seen: CT_NEW, or CT_INVALID if it takes it
	 * for one that it knows. These ways are walked one after the other; of the second one, only drops
	 * of what is invalid count, and what may not be met at all.
	 */
	unsigned int state;
	unsigned long steps;
	int depth;
	unsigned int tracked; /* families in which conntrack sees packets to a protected port */
	struct port_set untracked;
	struct port_set accepted; /* by the base chain that is walked */
	struct selection *selections;
	int selection_count;
};

static enum rule_kind kind_of(unsigned int why)
{
	static const struct {
		unsigned int why;
		enum rule_kind kind;
	} order[] = {
		{ WHY_RECENT, RULE_RECENT },   { WHY_RATE, RULE_RATE },	    { WHY_FLAGS, RULE_FLAGS },
		{ WHY_NEW, RULE_NEW },	       { WHY_NO_SYN, RULE_FLAGS },  { WHY_INVALID, RULE_INVALID },
		{ WHY_UNKNOWN, RULE_UNKNOWN }, { WHY_SOURCE, RULE_SOURCE }, { WHY_FIELD, RULE_FIELD },
	};

	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		if (why & order[i].why)
			return order[i].kind;
	return RULE_UNKNOWN;
}

static void report(struct walk *walk, struct rule *rule, enum rule_kind kind)
{
	if (rule->found || (walk->state == CT_INVALID && kind != RULE_INVALID &&
			    (kind < RULE_QUEUE || kind > RULE_TPROXY)))
		return;
	rule->found = true;
	if (rule->text)
		findings_add(walk->findings, kind, "%s %s %s: %s", text_of(rule->object, "family"),
			     text_of(rule->object, "table"), text_of(rule->object, "chain"), rule->text);
	else
		findings_add(walk->findings, kind, "%s %s %s: handle %lld", text_of(rule->object, "family"),
			     text_of(rule->object, "table"), text_of(rule->object, "chain"),
			     (long long)json_integer_value(json_object_get(rule->object, "handle")));
}

/* Something comes of @packets: whatever of @matters they were asked for, here or on their way, counts. */
static void effect(struct walk *walk, const struct frame *frame, struct rule *rule,
		   const struct packets *packets, unsigned int matters)
{
	if (walk->state == CT_INVALID)
		matters &= WHY_INVALID;
	if (packets->why & matters)
		report(walk, rule, kind_of(packets->why & matters));
	else if (frame->why & matters)
		report(walk, frame->cause, kind_of(frame->why & matters));
	for (; frame; frame = frame->up)
		if (frame->diverted_why & matters && ports_meet(&frame->diverted, &packets->ports))
			report(walk, frame->diverted_by, kind_of(frame->diverted_why & matters));
}

/* ---- values ---- */

static const json_t *unwrap_element(const json_t *value)
{
	const json_t *element = json_object_get(value, "elem");

	return element ? json_object_get(element, "val") : value;
}

/* The elements of a set or map: {"set": […]}, "@name"; NULL if @value is neither. */
static const json_t *elements_of(const struct walk *walk, const json_t *value)
{
	const char *name = json_string_value(value);
	char full[RULE_TEXT];
	const json_t *number, *object, *elements;

	if (json_object_get(value, "set")) {
		elements = json_object_get(value, "set");
		return json_is_array(elements) ? elements : NULL;
	}
	if (!name || *name != '@')
		return NULL;
	set_name(full, walk->base->family, walk->base->table, name + 1);
	number = json_object_get(walk->index->sets, full);
	if (!number)
		return NULL;
	only_key(json_array_get(walk->index->objects, (size_t)json_integer_value(number)), &object);
	return json_object_get(object, "elem");
}

static bool is_set(const json_t *value)
{
	const char *name = json_string_value(value);

	return json_object_get(value, "set") || (name && *name == '@');
}

struct bit {
	const char *name;
	unsigned int bit;
};

static const struct bit ct_states[] = {
	{ "invalid", CT_INVALID }, { "established", CT_ESTABLISHED }, { "related", CT_RELATED },
	{ "new", CT_NEW },	   { "untracked", CT_UNTRACKED },     {},
};

enum tcp_flag {
	FLAG_FIN = 0x01,
	FLAG_SYN = 0x02,
	FLAG_PSH = 0x08,
	FLAG_ACK = 0x10,
	FLAG_ECE = 0x40,
	FLAG_CWR = 0x80,
};

static const struct bit tcp_flags[] = {
	{ "fin", FLAG_FIN }, { "syn", FLAG_SYN }, { "rst", 0x04 },
	{ "psh", FLAG_PSH }, { "ack", FLAG_ACK }, { "urg", 0x20 },
	{ "ecn", FLAG_ECE }, { "cwr", FLAG_CWR }, {},
};

/* "syn", 2, ["syn", "ack"], {"|": ["syn", "ack"]}: false if it is something else. */
static bool bits_read(const json_t *value, const struct bit *names, unsigned int *bits, int depth)
{
	const json_t *list = json_object_get(value, "|") ?: value, *part;
	unsigned int more;
	size_t i;

	*bits = 0;
	if (depth > 4)
		return false;
	if (json_is_integer(value)) {
		*bits = (unsigned int)json_integer_value(value);
		return true;
	}
	if (json_is_string(value)) {
		for (; names->name; names++)
			if (!strcmp(names->name, json_string_value(value))) {
				*bits = names->bit;
				return true;
			}
		return false;
	}
	if (!json_is_array(list))
		return false;
	json_array_foreach ((json_t *)list, i, part) {
		if (!bits_read(part, names, &more, depth + 1))
			return false;
		*bits |= more;
	}
	return true;
}

enum answer {
	ANSWER_NO,
	ANSWER_YES,
	ANSWER_UNKNOWN,
};

static enum answer bits_equal(unsigned int bits, const json_t *value, const struct bit *names)
{
	const char *text = json_string_value(value);
	unsigned int wanted;

	if (text && !strcmp(text, "*"))
		return ANSWER_UNKNOWN; /* whatever no other element names */
	if (!bits_read(value, names, &wanted, 0))
		return ANSWER_UNKNOWN;
	return bits == wanted ? ANSWER_YES : ANSWER_NO;
}

/* Whether bits such as those of TCP flags match. @left may mask them. */
static enum answer bits_match(const struct walk *walk, unsigned int bits, const json_t *mask,
			      const char *op, const json_t *right, const struct bit *names)
{
	const json_t *elements = elements_of(walk, right), *element;
	enum answer answer = ANSWER_NO, one;
	unsigned int wanted;
	size_t i;

	if (mask) {
		if (!bits_read(mask, names, &wanted, 0))
			return ANSWER_UNKNOWN;
		bits &= wanted;
	}
	if (is_set(right)) {
		json_array_foreach ((json_t *)elements, i, element) {
			one = bits_equal(bits, unwrap_element(element), names);
			if (one != ANSWER_NO && answer != ANSWER_YES)
				answer = one;
		}
	} else if (!bits_read(right, names, &wanted, 0)) {
		return ANSWER_UNKNOWN;
	} else if (!strcmp(op, "in") || !strcmp(op, "!")) {
		answer = bits & wanted ? ANSWER_YES : ANSWER_NO;
	} else {
		answer = bits == wanted ? ANSWER_YES : ANSWER_NO;
	}
	if (!strcmp(op, "!=") || !strcmp(op, "!"))
		return answer == ANSWER_UNKNOWN ? answer : answer == ANSWER_NO ? ANSWER_YES : ANSWER_NO;
	return !strcmp(op, "==") || !strcmp(op, "in") ? answer : ANSWER_UNKNOWN;
}

/* ---- matches ---- */

/* Flags: what a SYN and a final ACK say to the question. */
static void match_flags(const struct walk *walk, struct packets *packets, const json_t *mask,
			const char *op, const json_t *right)
{
	static const unsigned int syns[] = { FLAG_SYN, FLAG_SYN | FLAG_ECE | FLAG_CWR };
	static const unsigned int acks[] = { FLAG_ACK, FLAG_ACK | FLAG_PSH, FLAG_ACK | FLAG_FIN,
					     FLAG_ACK | FLAG_PSH | FLAG_FIN };
	int yes = 0, no = 0, syn = 0;

	for (int i = 0; i < 6; i++) {
		enum answer answer = bits_match(walk, i < 2 ? syns[i] : acks[i - 2], mask, op, right,
						tcp_flags);

		if (answer == ANSWER_UNKNOWN) {
			packets_some(packets, WHY_FLAGS);
			return;
		}
		yes += answer == ANSWER_YES;
		no += answer == ANSWER_NO;
		syn += answer == ANSWER_YES && i < 2;
	}
	if (!yes)
		packets_none(packets); /* floods of odd flags: not ours, whatever becomes of them */
	else if (no)
		packets_some(packets, syn ? WHY_FLAGS : WHY_NO_SYN);
}

/* Connection states: that of a segment which conntrack meets first, and that of what is exempt from it. */
static void match_ct_state(const struct walk *walk, struct packets *packets, const json_t *mask,
			   const char *op, const json_t *right)
{
	static const unsigned int states[] = { CT_NEW, CT_INVALID, CT_ESTABLISHED, CT_RELATED,
					       CT_UNTRACKED };
	enum answer own = bits_match(walk, walk->state, mask, op, right, ct_states);
	enum answer untracked = bits_match(walk, CT_UNTRACKED, mask, op, right, ct_states);
	struct port_set tracked = packets->ports;
	bool differs = false;

	ports_remove(&tracked, &walk->untracked);
	if (untracked == ANSWER_NO)
		ports_keep(&packets->ports, &tracked);
	packets->certain &= untracked != ANSWER_UNKNOWN && own != ANSWER_UNKNOWN;
	if (own == ANSWER_NO) {
		ports_remove(&packets->ports, &tracked);
		return;
	}
	for (int i = 0; i < 5; i++)
		differs |= bits_match(walk, states[i], mask, op, right, ct_states) != own;
	if (differs && !ports_empty(&tracked))
		packets->why |= walk->state == CT_NEW ? WHY_NEW : WHY_INVALID;
}

/* What one value says of a port: 80, {"range": [80, 90]}. */
static void equal_port(struct packets *packets, const json_t *value)
{
	const json_t *range = json_object_get(value, "range");
	struct port_set ports = {};

	if (json_is_integer(value))
		ports_range(&ports, json_integer_value(value), json_integer_value(value));
	else if (range)
		ports_range(&ports, json_integer_value(json_array_get(range, 0)),
			    json_integer_value(json_array_get(range, 1)));
	else {
		packets_some(packets, 0);
		return;
	}
	ports_keep(&packets->ports, &ports);
}

static void equal_device(const struct walk *walk, struct packets *packets, const json_t *value)
{
	const char *name = json_string_value(value);
	size_t length = name ? strlen(name) : 0;

	if (!name)
		packets_some(packets, 0);
	else if (length && name[length - 1] == '*')
		packets_all_or_none(packets, !strncmp(name, walk->device, length - 1));
	else
		packets_all_or_none(packets, !strcmp(name, walk->device));
}

/* Names and numbers of what all packets here are: TCP, IPv4 or IPv6, for this host. */
static void equal_word(struct packets *packets, const json_t *value, const char *word, long long number)
{
	if (json_is_string(value))
		packets_all_or_none(packets, !strcmp(json_string_value(value), word));
	else if (json_is_integer(value))
		packets_all_or_none(packets, json_integer_value(value) == number);
	else
		packets_some(packets, 0);
}

/* Sources that the driver does not answer, but leaves to the stack: 0/8, 127/8, 224/3, ::, ::1, ff00::/8.
 */
static bool source_never_answered(const char *address, long long length)
{
	struct in_addr v4;
	struct in6_addr v6;
	unsigned int first;

	if (inet_pton(AF_INET, address, &v4) == 1) {
		first = ntohl(v4.s_addr) >> 24;
		return ((first == 0 || first == 127) && length >= 8) || (first >= 224 && length >= 3);
	}
	if (inet_pton(AF_INET6, address, &v6) == 1)
		return (v6.s6_addr[0] == 0xff && length >= 8) ||
		       ((IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6)) && length == 128);
	return false;
}

static void equal_source(struct packets *packets, const json_t *value)
{
	const json_t *prefix = json_object_get(value, "prefix"), *range = json_object_get(value, "range");
	const char *address = json_string_value(prefix ? json_object_get(prefix, "addr") : value);
	long long length = prefix ? json_integer_value(json_object_get(prefix, "len")) : 128;

	if (range) {
		/* 224.0.0.0-255.255.255.255, say */
		const char *first = json_string_value(json_array_get(range, 0));
		const char *last = json_string_value(json_array_get(range, 1));

		if (first && last && source_never_answered(first, 128) &&
		    source_never_answered(last, 128) &&
		    !strncmp(first, last, 4) == !strncmp(first, "127.", 4))
			packets_none(packets);
	} else if (prefix && !length) {
		return; /* 0.0.0.0/0 */
	} else if (address && source_never_answered(address, length)) {
		packets_none(packets);
	}
	packets_some(packets, WHY_SOURCE);
}

static bool one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

static void equal_payload(const struct walk *walk, struct packets *packets, const json_t *payload,
			  const json_t *value)
{
	static const char *const not_tcp[] = { "udp",	"udplite", "icmp",   "icmpv6", "sctp", "dccp",
					       "ah",	"esp",	   "comp",   "igmp",   "arp",  "gre",
					       "vxlan", "geneve",  "gretap", NULL };
	static const char *const same[] = { "sequence",	 "ackseq",    "window",	  "doff",
					    "urgptr",	 "reserved",  "length",	  "ttl",
					    "dscp",	 "hoplimit",  "ecn",	  "id",
					    "flowlabel", "hdrlength", "checksum", NULL };
	const char *protocol = text_of(payload, "protocol"), *field = text_of(payload, "field");
	const bool ip4 = !strcmp(protocol, "ip"), ip6 = !strcmp(protocol, "ip6");

	if (json_object_get(payload, "base")) {
		packets_some(packets, WHY_UNKNOWN);
		return;
	}
	if (one_of(protocol, not_tcp) || (ip4 && !walk->ipv4) || (ip6 && walk->ipv4))
		packets_none(packets);
	else if (!strcmp(field, "dport"))
		equal_port(packets, value);
	else if (!strcmp(field, "saddr"))
		equal_source(packets, value); /* of Ethernet, too */
	else if (!strcmp(field, "sport"))
		packets_some(packets, WHY_SOURCE);
	else if ((ip4 && !strcmp(field, "protocol")) || (ip6 && !strcmp(field, "nexthdr")))
		equal_word(packets, value, "tcp", 6);
	else if (!strcmp(protocol, "ether") && !strcmp(field, "type"))
		equal_word(packets, value, walk->ipv4 ? "ip" : "ip6", walk->ipv4 ? 0x0800 : 0x86dd);
	else
		packets_some(packets, one_of(field, same) ? WHY_FIELD : 0);
}

static void equal_meta(const struct walk *walk, struct packets *packets, const char *key,
		       const json_t *value)
{
	if (!strcmp(key, "iif") || !strcmp(key, "iifname"))
		equal_device(walk, packets, value);
	else if (!strcmp(key, "oif") || !strcmp(key, "oifname"))
		packets_none(packets); /* on the way in there is none */
	else if (!strcmp(key, "l4proto"))
		equal_word(packets, value, "tcp", 6);
	else if (!strcmp(key, "nfproto"))
		equal_word(packets, value, walk->ipv4 ? "ipv4" : "ipv6", walk->ipv4 ? 2 : 10);
	else if (!strcmp(key, "protocol"))
		equal_word(packets, value, walk->ipv4 ? "ip" : "ip6", walk->ipv4 ? 0x0800 : 0x86dd);
	else if (!strcmp(key, "pkttype"))
		equal_word(packets, value, "host", 0);
	else
		packets_some(packets, !strcmp(key, "length") ? WHY_FIELD : 0);
}

static void equal_fib(struct packets *packets, const json_t *fib, const json_t *value)
{
	const json_t *flags = json_object_get(fib, "flags"), *flag;
	bool daddr = json_is_string(flags) && !strcmp(json_string_value(flags), "daddr");
	size_t i;

	json_array_foreach ((json_t *)flags, i, flag)
		daddr |= json_is_string(flag) && !strcmp(json_string_value(flag), "daddr");
	if (daddr && !strcmp(text_of(fib, "result"), "type"))
		equal_word(packets, value, "local", 2);
	else
		packets_some(packets, 0); /* by the route back: a source that no client has */
}

static void equal_ct(struct packets *packets, const json_t *ct)
{
	const char *key = text_of(ct, "key");

	packets_some(packets, strstr(key, "saddr") || strstr(key, "proto-src") ? WHY_SOURCE : 0);
}

/*
 * Narrows @packets to those of which @left equals @value. What nobody here knows leaves them uncertain;
 * only what looks at the SYN as such counts.
 */
static void match_equal(const struct walk *walk, struct packets *packets, const json_t *left,
			const json_t *value, int depth);

static void equal_concat(const struct walk *walk, struct packets *packets, const json_t *parts,
			 const json_t *value, int depth)
{
	const json_t *values = json_object_get(value, "concat"), *part;
	size_t i;

	json_array_foreach ((json_t *)parts, i, part) {
		if (!json_array_get(values, i))
			packets_some(packets, 0);
		else
			match_equal(walk, packets, part, json_array_get(values, i), depth + 1);
	}
}

static void match_equal(const struct walk *walk, struct packets *packets, const json_t *left,
			const json_t *value, int depth)
{
	const json_t *what, *and = json_object_get(left, "&"), *mask = NULL;
	const json_t *inner = and? json_array_get(and, 0) : left;
	const char *key = only_key(inner, &what), *text;

	value = unwrap_element(value);
	text = json_string_value(value);
	if (and)
		mask = json_array_get(and, 1);
	if (depth > 4) {
		packets_some(packets, WHY_UNKNOWN);
		return;
	}
	if (!strcmp(key, "payload") && !strcmp(text_of(what, "field"), "flags") &&
	    !strcmp(text_of(what, "protocol"), "tcp")) {
		match_flags(walk, packets, mask, "==", value);
		return;
	}
	if (!strcmp(key, "ct") && !strcmp(text_of(what, "key"), "state")) {
		match_ct_state(walk, packets, mask, "==", value);
		return;
	}
	if (mask || (text && !strcmp(text, "*"))) {
		/* What is left of a field, or whatever no other element names: some, of what the field is.
		 */
		struct port_set ports = packets->ports;

		match_equal(walk, packets, inner, NULL, depth + 1);
		packets->ports = ports;
		packets->certain = false;
		return;
	}
	if (!strcmp(key, "payload"))
		equal_payload(walk, packets, what, value);
	else if (!strcmp(key, "meta"))
		equal_meta(walk, packets, text_of(what, "key"), value);
	else if (!strcmp(key, "fib"))
		equal_fib(packets, what, value);
	else if (!strcmp(key, "ct"))
		equal_ct(packets, what);
	else if (!strcmp(key, "concat"))
		equal_concat(walk, packets, what, value, depth);
	else if (!strcmp(key, "tcp option") || !strcmp(key, "osf"))
		packets_some(packets, WHY_FLAGS); /* what only SYNs have */
	else if (!strcmp(key, "socket") || !strcmp(key, "rt") || !strcmp(key, "exthdr") ||
		 !strcmp(key, "ip option") || !strcmp(key, "numgen") || !strcmp(key, "ipsec"))
		packets_some(packets, 0);
	else if (!strcmp(key, "jhash") || !strcmp(key, "symhash"))
		packets_some(packets, WHY_SOURCE);
	else
		packets_some(packets, WHY_UNKNOWN);
}

/* Packets of which @left is in a set: what any of its elements lets through. */
static void match_set(const struct walk *walk, struct packets *packets, const json_t *left,
		      const json_t *set)
{
	const json_t *elements = elements_of(walk, set), *element;
	struct packets any = { .certain = packets->certain, .why = packets->why }, one;
	size_t i, taken = 0;

	if (!json_array_size(elements)) {
		/* Empty for now. Sets of sources fill while we look away. */
		one = *packets;
		match_equal(walk, &one, left, NULL, 0);
		if (!(one.why & ~packets->why & WHY_SOURCE))
			ports_clear(&one.ports);
		*packets = one;
		return;
	}
	json_array_foreach ((json_t *)elements, i, element) {
		one = *packets;
		match_equal(walk, &one, left, element, 0);
		if (ports_empty(&one.ports))
			continue;
		ports_add(&any.ports, &one.ports);
		any.certain &= one.certain;
		any.why |= one.why;
		/* The rest of a long list of sources says the same. */
		if (++taken > 64 && !memcmp(&any.ports, &packets->ports, sizeof(any.ports)) && !any.certain)
			break;
	}
	*packets = any;
}

static bool is_bits(const json_t *left, const json_t **mask, const struct bit **names)
{
	const json_t *and = json_object_get(left, "&"), *what;
	const char *key = only_key(and? json_array_get(and, 0) : left, &what);

	*mask = and? json_array_get(and, 1) : NULL;
	*names = NULL;
	if (!strcmp(key, "payload") && !strcmp(text_of(what, "protocol"), "tcp") &&
	    !strcmp(text_of(what, "field"), "flags"))
		*names = tcp_flags;
	if (!strcmp(key, "ct") && !strcmp(text_of(what, "key"), "state"))
		*names = ct_states;
	return *names;
}

/* tcp dport >= 80 and the like. */
static void match_order(const struct walk *walk, struct packets *packets, const json_t *left,
			const char *op, const json_t *right)
{
	const long long bound = json_integer_value(right);
	const json_t *payload = json_object_get(left, "payload");
	struct port_set ports = {};

	if (!strcmp(text_of(payload, "field"), "dport") && json_is_integer(right)) {
		match_equal(walk, packets, left, NULL, 0);
		if (*op == '<')
			ports_range(&ports, 0, op[1] ? bound : bound - 1);
		else
			ports_range(&ports, op[1] ? bound : bound + 1, 65535);
		ports_keep(&packets->ports, &ports);
		return;
	}
	match_equal(walk, packets, left, NULL, 0);
	packets->certain = false;
}

static void match(const struct walk *walk, struct packets *packets, const json_t *match)
{
	const json_t *left = json_object_get(match, "left"), *right = json_object_get(match, "right"),
		     *mask;
	const char *op = text_of(match, "op");
	struct packets equal = *packets;
	const struct bit *names;

	if (is_bits(left, &mask, &names)) {
		if (names == tcp_flags)
			match_flags(walk, packets, mask, op, right);
		else
			match_ct_state(walk, packets, mask, op, right);
		return;
	}
	if (*op == '<' || *op == '>') {
		match_order(walk, packets, left, op, right);
		return;
	}
	equal.certain = true;
	if (is_set(right))
		match_set(walk, &equal, left, right);
	else
		match_equal(walk, &equal, left, right, 0);
	if (strcmp(op, "!=") && strcmp(op, "!")) {
		equal.certain &= packets->certain;
		*packets = equal;
		return;
	}
	/* All the others. A protocol that a field belongs to is asked for first, and not negated. */
	if (equal.certain && !json_object_get(json_object_get(left, "payload"), "protocol")) {
		ports_remove(&packets->ports, &equal.ports);
	} else if (equal.certain) {
		struct packets has = *packets;

		match_equal(walk, &has, left, NULL, 0);
		ports_remove(&has.ports, &equal.ports);
		packets->ports = has.ports;
	} else if (!ports_empty(&equal.ports)) {
		packets_some(packets, equal.why);
	}
}

/* ---- matches of xtables, which JSON knows by name only ---- */

/* The word behind @name in the text of a rule, up to a blank; NULL if it is not there. */
static const char *word_behind(const char *text, const char *name)
{
	const char *found = text ? strstr(text, name) : NULL;

	return found ? found + strlen(name) : NULL;
}

/* -m conntrack: "ct state related,established", "ct state ! new" */
static void xt_conntrack(const struct walk *walk, const struct rule *rule, struct packets *packets)
{
	const char *word = word_behind(rule->text, "ct state ");
	json_t *states;
	bool not ;

	if (!word) {
		packets_some(packets, rule->text && strstr(rule->text, "ct ") &&
						      !strstr(rule->text, "ct state") &&
						      !strstr(rule->text, "xt match")
					      ? 0
					      : WHY_UNKNOWN);
		return;
	}
	not = *word == '!';
	word += strspn(word, "!= ");
	states = json_array();
	while (*word && *word != ' ') {
		size_t length = strcspn(word, ", ");

		json_array_append_new(states, json_stringn(word, length));
		word += length;
		word += *word == ',';
	}
	match_ct_state(walk, packets, NULL, not ? "!" : "in", states);
	json_decref(states);
}

/* -m multiport: "dport { 90, 443-500 }", "dport != { … }", "dport 22" */
static void xt_multiport(const struct rule *rule, struct packets *packets)
{
	const char *word = word_behind(rule->text, "dport ");
	struct port_set ports = {};
	bool not, set;
	int length;

	if (word_behind(rule->text, "sport ") || !word) {
		packets_some(packets, word ? WHY_SOURCE : WHY_UNKNOWN);
		return;
	}
	not = *word == '!';
	word += strspn(word, "!= ");
	set = *word == '{';
	do {
		unsigned int first, last;

		word += strspn(word, "{, ");
		if (sscanf(word, "%u%n", &first, &length) != 1)
			break;
		last = first;
		word += length;
		if (sscanf(word, "-%u%n", &last, &length) == 1)
			word += length;
		ports_range(&ports, first, last);
	} while (set);
	if (not )
		ports_remove(&packets->ports, &ports);
	else
		ports_keep(&packets->ports, &ports);
}

/* -m addrtype: "fib daddr type local", "fib daddr type != local" */
static void xt_addrtype(const struct rule *rule, struct packets *packets)
{
	const char *word = word_behind(rule->text, "fib daddr type ");
	bool not, local;

	if (!word || strchr(word, '{')) {
		packets_some(packets, 0);
		return;
	}
	not = *word == '!';
	word += strspn(word, "!= ");
	local = !strncmp(word, "local", 5);
	packets_all_or_none(packets, local != not );
}

static void xt_match(const struct walk *walk, const struct rule *rule, const char *name,
		     struct packets *packets)
{
	static const struct {
		const char *name;
		unsigned int why;
	} matches[] = {
		{ "recent", WHY_RECENT },
		{ "hashlimit", WHY_RATE },
		{ "connlimit", WHY_RATE },
		{ "limit", WHY_RATE },
		{ "quota", WHY_RATE },
		{ "quota2", WHY_RATE },
		{ "rateest", WHY_RATE },
		{ "connbytes", 0 },
		{ "iprange", WHY_SOURCE },
		{ "mac", WHY_SOURCE },
		{ "set", WHY_SOURCE },
		{ "geoip", WHY_SOURCE },
		{ "asn", WHY_SOURCE },
		{ "osf", WHY_FLAGS },
		{ "tcpmss", WHY_FLAGS },
		{ "tcp", WHY_FLAGS },
		{ "length", WHY_FIELD },
		{ "length2", WHY_FIELD },
		{ "ttl", WHY_FIELD },
		{ "hl", WHY_FIELD },
		{ "dscp", WHY_FIELD },
		{ "tos", WHY_FIELD },
		{ "ecn", WHY_FLAGS },
		{ "mark", 0 },
		{ "connmark", 0 },
		{ "pkttype", 0 },
		{ "rpfilter", 0 },
		{ "socket", 0 },
		{ "owner", 0 },
		{ "physdev", 0 },
		{ "devgroup", 0 },
		{ "policy", 0 },
		{ "time", 0 },
		{ "cpu", 0 },
		{ "helper", 0 },
		{ "statistic", 0 },
		{ "connlabel", 0 },
		{ "realm", 0 },
		{ "udp", 0 },
		{ "icmp", 0 },
		{ "icmp6", 0 },
		{ "sctp", 0 },
	};

	if (!strcmp(name, "comment"))
		return;
	if (!strcmp(name, "conntrack") || !strcmp(name, "state")) {
		xt_conntrack(walk, rule, packets);
	} else if (!strcmp(name, "multiport")) {
		xt_multiport(rule, packets);
	} else if (!strcmp(name, "addrtype")) {
		xt_addrtype(rule, packets);
	} else {
		for (size_t i = 0; i < sizeof(matches) / sizeof(*matches); i++)
			if (!strcmp(name, matches[i].name)) {
				packets_some(packets, matches[i].why);
				return;
			}
		packets_some(packets, WHY_UNKNOWN);
	}
}

/* ---- verdicts and other statements ---- */

static void walk_chain(struct walk *walk, struct frame *frame, const struct chain *chain);

/*
 * What a chain inherits from the question that led to it. That a connection is new says nothing in there: a
 * SYN's is, too.
 */
static unsigned int inherited(unsigned int why)
{
	return why & ~(unsigned int)WHY_NEW;
}

static void verdict_jump(struct walk *walk, struct frame *frame, struct rule *rule, struct packets *packets,
			 const json_t *value, bool back)
{
	const struct chain *chain = find_chain(walk->index, walk->base->family, walk->base->table,
					       text_of(value, "target"));
	struct frame *next;

	if (!chain)
		return;
	next = walk->depth < JUMPS_MAX ? calloc(1, sizeof(*next)) : NULL;
	if (!next) {
		report(walk, rule, RULE_ENDLESS);
		return;
	}
	next->up = frame;
	next->certain = frame->certain && packets->certain;
	next->why = frame->why | inherited(packets->why);
	next->cause = packets->why ? rule : frame->cause;
	next->left = packets->ports;
	walk->depth++;
	walk_chain(walk, next, chain);
	walk->depth--;
	ports_add(&next->returned, &next->left);
	if (packets->certain)
		ports_remove(&frame->left, &packets->ports);
	if (back)
		ports_add(&frame->left, &next->returned);
	else
		ports_add(&frame->returned, &next->returned);
	free(next);
}

static void selection_add(struct walk *walk, struct rule *rule, unsigned int why,
			  const struct port_set *ports)
{
	struct selection *selection = NULL;

	/* A list of thousands is told of by its first ones. */
	if (walk->selection_count < SELECTIONS_MAX)
		selection = malloc(sizeof(*selection));
	if (!selection) {
		if (walk->selections)
			ports_add(&walk->selections->ports, ports);
		return;
	}
	walk->selection_count++;
	selection->next = walk->selections;
	selection->rule = rule;
	selection->why = why;
	selection->ports = *ports;
	walk->selections = selection;
}

/* The rest of @ports is dropped. */
static void drop_others(struct walk *walk, const struct port_set *ports)
{
	for (const struct selection *selection = walk->selections; selection; selection = selection->next)
		if (ports_meet(&selection->ports, ports))
			report(walk, selection->rule, kind_of(selection->why));
}

static void verdict_accept(struct walk *walk, struct frame *frame, struct rule *rule,
			   struct packets *packets)
{
	const unsigned int why = frame->why | packets->why;

	effect(walk, frame, rule, packets, WHY_MATTERS_ALWAYS);
	ports_add(&walk->accepted, &packets->ports);
	if (why & WHY_MATTERS_LATER && !(why & WHY_MATTERS_ALWAYS))
		selection_add(walk, packets->why & WHY_MATTERS_LATER ? rule : frame->cause,
			      why & WHY_MATTERS_LATER, &packets->ports);
}

static void verdict_return(struct walk *walk, struct frame *frame, struct rule *rule,
			   struct packets *packets)
{
	const unsigned int matters = packets->why & (WHY_MATTERS_ALWAYS | WHY_MATTERS_LATER);

	(void)walk;
	if (matters) {
		ports_add(&frame->diverted, &packets->ports);
		frame->diverted_why |= matters;
		frame->diverted_by = rule;
	}
	ports_add(&frame->returned, &packets->ports);
}

/* A verdict, by its JSON name. False if it is none. */
static bool verdict(struct walk *walk, struct frame *frame, struct rule *rule, struct packets *packets,
		    const char *name, const json_t *value)
{
	if (!strcmp(name, "continue"))
		return true;
	if (!strcmp(name, "jump") || !strcmp(name, "goto")) {
		verdict_jump(walk, frame, rule, packets, value, *name == 'j');
		return true;
	}
	if (!strcmp(name, "accept")) {
		verdict_accept(walk, frame, rule, packets);
	} else if (!strcmp(name, "drop") || !strcmp(name, "reject") || !strcmp(name, "fwd")) {
		effect(walk, frame, rule, packets, WHY_MATTERS_ON_DROP);
		drop_others(walk, &packets->ports);
	} else if (!strcmp(name, "return")) {
		verdict_return(walk, frame, rule, packets);
	} else {
		return false;
	}
	if (packets->certain)
		ports_remove(&frame->left, &packets->ports);
	return true;
}

static void verdict_map(struct walk *walk, struct frame *frame, struct rule *rule, struct packets *packets,
			const json_t *vmap)
{
	const json_t *key = json_object_get(vmap, "key"), *data = json_object_get(vmap, "data");
	const json_t *elements = elements_of(walk, data), *element, *value;
	const char *name;
	size_t i;

	json_array_foreach ((json_t *)elements, i, element) {
		struct packets some = *packets;

		match_equal(walk, &some, key, json_array_get(element, 0), 0);
		if (ports_empty(&some.ports))
			continue;
		name = only_key(json_array_get(element, 1), &value);
		if (!verdict(walk, frame, rule, &some, name, value))
			report(walk, rule, RULE_UNKNOWN);
		if (walk->steps++ > walk->question->steps)
			return;
	}
	/* What is left goes on in this rule; what has had its verdict, does not. */
	ports_keep(&packets->ports, &frame->left);
}

static void notrack(struct walk *walk, const struct frame *frame, struct rule *rule,
		    const struct packets *packets)
{
	effect(walk, frame, rule, packets, WHY_MATTERS_ALWAYS);
	if (packets->certain && frame->certain && walk->base->hook == HOOK_PREROUTING &&
	    walk->base->priority < PRIORITY_CONNTRACK)
		ports_add(&walk->untracked, &packets->ports);
}

static void xt_target(struct walk *walk, struct frame *frame, struct rule *rule, const char *name,
		      struct packets *packets)
{
	static const char *const harmless[] = {
		"LOG",	   "NFLOG",	  "ULOG",     "TRACE", "AUDIT", "MARK", "CONNMARK", "CLASSIFY",
		"SECMARK", "CONNSECMARK", "CHECKSUM", "DSCP",  "TOS",	"TTL",	"HL",	    "IDLETIMER",
		"RATEEST", "TEE",	  "HMARK",    "LED",   "ECN",	NULL
	};
	static const char *const nat[] = { "DNAT", "REDIRECT", "NETMAP", "SNAT", "MASQUERADE", NULL };

	if (!strcmp(name, "REJECT"))
		verdict(walk, frame, rule, packets, "reject", NULL);
	else if (!strcmp(name, "NOTRACK") || !strcmp(name, "CT")) {
		if (rule->text && strstr(rule->text, "notrack"))
			notrack(walk, frame, rule, packets);
	} else if (!strcmp(name, "NFQUEUE"))
		report(walk, rule, RULE_QUEUE);
	else if (!strcmp(name, "SYNPROXY"))
		report(walk, rule, RULE_SYNPROXY);
	else if (!strcmp(name, "TPROXY"))
		report(walk, rule, RULE_TPROXY);
	else if (one_of(name, nat))
		report(walk, rule, RULE_NAT);
	else if (!strcmp(name, "SET"))
		report(walk, rule, RULE_RATE);
	else if (!strcmp(name, "TCPMSS") || !strcmp(name, "TCPOPTSTRIP"))
		report(walk, rule, RULE_FLAGS);
	else if (one_of(name, harmless))
		effect(walk, frame, rule, packets, *name == 'L' || *name == 'N' ? 0 : WHY_FLAGS);
	else
		report(walk, rule, RULE_UNKNOWN);
}

static void xt(struct walk *walk, struct frame *frame, struct rule *rule, const json_t *value,
	       struct packets *packets)
{
	const char *name = text_of(value, "name");

	if (!strcmp(text_of(value, "type"), "match"))
		xt_match(walk, rule, name, packets);
	else if (!strcmp(text_of(value, "type"), "target"))
		xt_target(walk, frame, rule, name, packets);
	else
		report(walk, rule, RULE_UNKNOWN);
	/* It may be the match itself that keeps a list. */
	if (packets->why & WHY_RECENT && !ports_empty(&packets->ports))
		report(walk, rule, RULE_RECENT);
}

/* Statements that are always the same, whatever they hold. */
static const struct {
	const char *name;
	int kind; /* enum rule_kind, or -1: harmless */
	unsigned int why;
} statements[] = {
	{ "limit", -1, WHY_RATE },
	{ "quota", -1, WHY_RATE },
	{ "ct count", -1, WHY_RATE },
	{ "meter", RULE_RATE, WHY_RATE },
	{ "set", RULE_RATE, WHY_RATE },
	{ "map", RULE_RATE, WHY_RATE },
	{ "queue", RULE_QUEUE, 0 },
	{ "synproxy", RULE_SYNPROXY, 0 },
	{ "dnat", RULE_NAT, 0 },
	{ "redirect", RULE_NAT, 0 },
	{ "snat", RULE_NAT, 0 },
	{ "masquerade", RULE_NAT, 0 },
	{ "tproxy", RULE_TPROXY, 0 },
	{ "counter", -1, 0 },
	{ "log", -1, 0 },
	{ "comment", -1, 0 },
	{ "last", -1, 0 },
	{ "ct helper", -1, 0 },
	{ "ct timeout", -1, 0 },
	{ "ct expectation", -1, 0 },
	{ "secmark", -1, 0 },
	{ "flow", -1, 0 },
	{ "dup", -1, 0 },
	{ "tunnel", -1, 0 },
};

/* One statement. It narrows @packets, or does something with them. */
static void statement(struct walk *walk, struct frame *frame, struct rule *rule, const char *name,
		      const json_t *value, struct packets *packets)
{
	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
		if (strcmp(statements[i].name, name))
			continue;
		if (statements[i].kind >= 0)
			report(walk, rule, (enum rule_kind)statements[i].kind);
		if (statements[i].why)
			packets_some(packets, statements[i].why);
		return;
	}
	if (!strcmp(name, "match"))
		match(walk, packets, value);
	else if (!strcmp(name, "vmap"))
		verdict_map(walk, frame, rule, packets, value);
	else if (!strcmp(name, "notrack"))
		notrack(walk, frame, rule, packets);
	else if (!strcmp(name, "mangle") || !strcmp(name, "reset")) {
		/* A mark, by which others decide; or an option of the SYN, the MSS most likely. */
		effect(walk, frame, rule, packets, WHY_MATTERS_ALWAYS);
		if (json_object_get(json_object_get(value, "key"), "tcp option") || *name == 'r')
			report(walk, rule, RULE_FLAGS);
	} else if (!strcmp(name, "xt"))
		xt(walk, frame, rule, value, packets);
	else if (!verdict(walk, frame, rule, packets, name, value))
		report(walk, rule, RULE_UNKNOWN);
}

static void walk_rule(struct walk *walk, struct frame *frame, struct rule *rule)
{
	struct packets packets = { .ports = frame->left, .certain = true };
	const json_t *entry, *value;
	size_t i;

	json_array_foreach ((json_t *)rule->statements, i, entry) {
		const char *name = only_key(entry, &value);

		statement(walk, frame, rule, name, value, &packets);
		if (ports_empty(&packets.ports))
			return;
	}
}

/* Follows frame->left through a chain. */
static void walk_chain(struct walk *walk, struct frame *frame, const struct chain *chain)
{
	for (struct rule *rule = chain->rules; rule; rule = rule->next) {
		if (ports_empty(&frame->left))
			return;
		if (walk->steps++ > walk->question->steps)
			return;
		walk_rule(walk, frame, rule);
	}
}

/* ---- base chains ---- */

static bool chain_has_device(const struct chain *chain, const char *device)
{
	const size_t length = strlen(device);
	const json_t *one;
	const char *found;
	size_t i;

	if (json_is_string(chain->device))
		return !strcmp(json_string_value(chain->device), device);
	if (json_is_array(chain->device)) {
		json_array_foreach ((json_t *)chain->device, i, one)
			if (json_is_string(one) && !strcmp(json_string_value(one), device))
				return true;
		return false;
	}
	/* Some versions leave it out of their JSON. */
	found = chain->declaration ? strstr(chain->declaration, " device") : NULL;
	if (!found)
		return true;
	while ((found = strstr(found + 1, device)))
		if (strchr("\" ", found[-1]) && strchr("\", ", found[length]))
			return true;
	return false;
}

static bool chain_concerns(const struct walk *walk, const struct chain *chain)
{
	if (chain->hook == HOOK_NONE)
		return false;
	if (!strcmp(chain->family, walk->ipv4 ? "ip" : "ip6"))
		return true;
	if (!strcmp(chain->family, "inet") || !strcmp(chain->family, "netdev"))
		return chain->hook != HOOK_INGRESS || chain_has_device(chain, walk->device);
	return false;
}

static int compare_chains(const void *a, const void *b)
{
	const struct chain *const *left = a, *const *right = b;

	if ((*left)->hook != (*right)->hook)
		return (*left)->hook < (*right)->hook ? -1 : 1;
	if ((*left)->priority != (*right)->priority)
		return (*left)->priority < (*right)->priority ? -1 : 1;
	return *left < *right ? -1 : *left > *right;
}

/* Follows @alive through a base chain, and leaves in it what comes out. */
static void walk_base(struct walk *walk, const struct chain *chain, struct port_set *alive)
{
	struct frame *frame = calloc(1, sizeof(*frame));

	if (!frame) {
		walk->findings->short_of_memory = true;
		return;
	}
	walk->base = chain;
	walk->depth = 0;
	ports_clear(&walk->accepted);
	frame->certain = true;
	frame->left = *alive;
	walk_chain(walk, frame, chain);
	ports_add(&frame->left, &frame->returned);
	*alive = walk->accepted;
	if (chain->drops) {
		struct packets rest = { .ports = frame->left, .certain = true };

		/* Of the policy nobody can be told; of what kept others from it, they can. */
		effect(walk, frame, NULL, &rest, WHY_MATTERS_ON_DROP);
		drop_others(walk, &frame->left);
	} else {
		ports_add(alive, &frame->left);
	}
	while (walk->selections) {
		struct selection *selection = walk->selections;

		walk->selections = selection->next;
		free(selection);
	}
	walk->selection_count = 0;
	free(frame);
}

/*
 * NAT is there for a family as soon as one chain of that type is, whatever its hook and rules. It then
 * takes a promoted segment's request socket, which has no ports yet, for one of another connection
 * (net/netfilter/nf_nat_proto.c:nf_nat_inet_port_was_mangled()).
 */
static void look_of_nat(const struct walk *walk)
{
	unsigned int left = walk->tracked;

	for (size_t i = 0; i < walk->index->chain_count; i++) {
		const struct chain *chain = &walk->index->chain[i];
		unsigned int families = FAMILY_IPV4 | FAMILY_IPV6;

		if (!strcmp(chain->family, "ip"))
			families = FAMILY_IPV4;
		else if (!strcmp(chain->family, "ip6"))
			families = FAMILY_IPV6;
		else if (strcmp(chain->family, "inet"))
			families = 0;
		if (!chain->nat || !(left & families))
			continue;
		left &= ~families;
		findings_add(walk->findings, RULE_NAT_CHAIN, "chain %s of table %s %s", chain->name,
			     chain->family, chain->table);
	}
}

/* Conntrack looks at what has come so far. */
static void look_of_conntrack(struct walk *walk, const struct port_set *alive, bool *loose_found)
{
	struct port_set tracked = *alive;

	ports_remove(&tracked, &walk->untracked);
	if (!ports_empty(&tracked))
		walk->tracked |= walk->ipv4 ? FAMILY_IPV4 : FAMILY_IPV6;
	if (walk->question->tcp_loose || !walk->index->uses_conntrack || ports_empty(&tracked) ||
	    *loose_found)
		return;
	*loose_found = true;
	findings_add(walk->findings, RULE_LOOSE, "net.netfilter.nf_conntrack_tcp_loose=0");
}

static void walk_all(struct walk *walk, const struct chain **order, size_t count, bool *loose_found)
{
	struct port_set alive = *walk->question->ports;
	bool looked = false;

	ports_clear(&walk->untracked);
	for (size_t i = 0; i < count; i++) {
		if (!chain_concerns(walk, order[i]))
			continue;
		if (!looked &&
		    (order[i]->hook == HOOK_INPUT ||
		     (order[i]->hook == HOOK_PREROUTING && order[i]->priority >= PRIORITY_CONNTRACK))) {
			looked = true;
			look_of_conntrack(walk, &alive, loose_found);
		}
		walk_base(walk, order[i], &alive);
	}
	if (!looked)
		look_of_conntrack(walk, &alive, loose_found);
}

bool ruleset_judge(const json_t *ruleset, const char *text, const struct ruleset_question *question,
		   struct rule_findings *findings)
{
	struct walk walk = { .question = question, .findings = findings };
	const struct chain **order;
	bool loose_found = false;
	struct index index;

	if (!index_build(&index, ruleset, text)) {
		index_free(&index);
		return false;
	}
	walk.index = &index;
	order = calloc(index.chain_count + 1, sizeof(*order));
	for (size_t i = 0; order && i < index.chain_count; i++)
		order[i] = &index.chain[i];
	if (order) {
		qsort(order, index.chain_count, sizeof(*order), compare_chains);
		for (int i = 0; i < 4 * question->device_count; i++) {
			walk.state = i & 2 ? CT_INVALID : CT_NEW;
			walk.ipv4 = !(i & 1);
			walk.device = question->devices[i / 4];
			walk_all(&walk, order, index.chain_count, &loose_found);
		}
	} else {
		findings->short_of_memory = true;
	}
	look_of_nat(&walk);
	if (walk.steps > question->steps)
		findings_add(findings, RULE_ENDLESS, "the ruleset");
	free(order);
	index_free(&index);
	return true;
}
