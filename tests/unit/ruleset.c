// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * user/ruleset.c: which rules do not fit connections whose SYN they never see. Rules are as nft 1.0.6
 * prints them in JSON, but for the quotes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../user/ruleset.h"
#include "report.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(*(array)))

#define EQ(left, right)	 "{'match':{'op':'==','left':" left ",'right':" right "}}"
#define NE(left, right)	 "{'match':{'op':'!=','left':" left ",'right':" right "}}"
#define IN(left, right)	 "{'match':{'op':'in','left':" left ",'right':" right "}}"
#define FIELD(p, f)	 "{'payload':{'protocol':'" p "','field':'" f "'}}"
#define META(key)	 "{'meta':{'key':'" key "'}}"
#define AND(left, right) "{'&':[" left "," right "]}"
#define XT(name)	 "{'xt':{'type':'match','name':'" name "'}}"
#define XT_TARGET(name)	 "{'xt':{'type':'target','name':'" name "'}}"
#define DPORT		 FIELD("tcp", "dport")
#define P80		 EQ(DPORT, "80")
#define P22		 EQ(DPORT, "22")
#define FLAGS		 FIELD("tcp", "flags")
#define FLAGS_FSRA	 AND(FLAGS, "['fin','syn','rst','ack']")
#define STATE		 "{'ct':{'key':'state'}}"
#define ESTABLISHED	 IN(STATE, "['established','related']")
#define LIMIT		 "{'limit':{'rate':10,'burst':5,'per':'second'}}"
#define COUNTER		 "{'counter':{'packets':0,'bytes':0}}"
#define ACCEPT		 "{'accept':null}"
#define DROP		 "{'drop':null}"
#define REJECT		 "{'reject':{'type':'tcp reset'}}"
#define RETURN		 "{'return':null}"
#define JUMP(chain)	 "{'jump':{'target':'" chain "'}}"
#define GOTO(chain)	 "{'goto':{'target':'" chain "'}}"

/*
 * A ruleset in lines: "table FAMILY", "chain NAME HOOK PRIORITY POLICY", "natchain NAME HOOK PRIORITY",
 * "chain NAME", "set NAME
 * [ELEMENT…]", "map NAME [ELEMENT…]", "rule CHAIN [STATEMENT…]" and, behind a #, how nft prints the rule.
 * Rules are numbered from 1.
 */
static void build(const char *lines, char **json, char **text)
{
	char family[16] = "inet", name[64], hook[32], policy[16], *end;
	size_t json_size, text_size;
	FILE *j = open_memstream(json, &json_size), *t = open_memstream(text, &text_size);
	int priority, rules = 0, taken;

	REQUIRE(j && t);
	fputs("{'nftables':[{'metainfo':{'version':'1.0.6'}}", j);
	for (; *lines; lines += strcspn(lines, "\n"), lines += *lines == '\n') {
		const int length = (int)strcspn(lines, "\n");
		const char *sharp = memchr(lines, '#', (size_t)length);
		const int body = sharp ? (int)(sharp - lines) : length;

		if (sscanf(lines, "table %15s", family) == 1) {
			fprintf(t, "}\ntable %s t { # handle 900\n", family);
		} else if (sscanf(lines, "chain %63s %31s %d %15s", name, hook, &priority, policy) == 4) {
			fprintf(j,
				",{'chain':{'family':'%s','table':'t','name':'%s','handle':900,'type':"
				"'filter','hook':'%s','prio':%d,'policy':'%s'}}",
				family, name, hook, priority, policy);
			fprintf(t, "table %s t { # handle 900\n\tchain %s { # handle 900\n", family, name);
			if (sharp)
				fprintf(t, "\t\t%.*s\n", length - body - 2, sharp + 2);
			fputs("\t}\n", t);
		} else if (sscanf(lines, "natchain %63s %31s %d", name, hook, &priority) == 3) {
			fprintf(j,
				",{'chain':{'family':'%s','table':'t','name':'%s','handle':900,'type':"
				"'nat','hook':'%s','prio':%d,'policy':'accept'}}",
				family, name, hook, priority);
		} else if (sscanf(lines, "chain %63s", name) == 1) {
			fprintf(j, ",{'chain':{'family':'%s','table':'t','name':'%s','handle':900}}",
				family, name);
		} else if (sscanf(lines, "set %63s %n", name, &taken) == 1) {
			fprintf(j, ",{'set':{'family':'%s','table':'t','name':'%s','elem':%.*s}}", family,
				name, body - taken, lines + taken);
		} else if (sscanf(lines, "map %63s %n", name, &taken) == 1) {
			fprintf(j, ",{'map':{'family':'%s','table':'t','name':'%s','elem':%.*s}}", family,
				name, body - taken, lines + taken);
		} else {
			REQUIRE(sscanf(lines, "rule %63s %n", name, &taken) == 1, "%s", lines);
			fprintf(j,
				",{'rule':{'family':'%s','table':'t','chain':'%s','handle':%d,'expr':%.*s}"
				"}",
				family, name, ++rules, body - taken, lines + taken);
			if (sharp)
				fprintf(t,
					"table %s t { # handle 900\n\tchain %s { # handle 900\n\t\t%.*s # "
					"handle %d\n\t}\n}\n",
					family, name, length - body - 2, sharp + 2, rules);
		}
	}
	fputs("]}", j);
	fclose(j);
	fclose(t);
	for (end = *json; *end; end++)
		if (*end == '\'')
			*end = '"';
}

static const char *const kind_names[RULE_KINDS] = { "flags",	 "rate",   "recent",  "new",
						    "invalid",	 "loose",  "source",  "field",
						    "queue",	 "proxy",  "nat",     "tproxy",
						    "nat chain", "legacy", "unknown", "endless" };

static struct rule_findings judge(const char *lines, const char *ports, const char *device, bool tcp_loose)
{
	struct port_set set = {};
	struct ruleset_question question = {
		.ports = &set,
		.devices = &device,
		.device_count = 1,
		.tcp_loose = tcp_loose,
		.steps = RULESET_STEPS,
	};
	struct rule_findings findings = {};
	const char *wrong;
	json_error_t error;
	char *json, *text;
	json_t *ruleset;

	build(lines, &json, &text);
	ruleset = json_loads(json, 0, &error);
	REQUIRE(ruleset, "%s at %.40s", error.text, json + error.position);
	REQUIRE(port_set_parse(&set, ports, &wrong));
	REQUIRE(ruleset_judge(ruleset, text, &question, &findings));
	json_decref(ruleset);
	free(json);
	free(text);
	return findings;
}

/* "rate 1, source 2": kinds and numbers of rules. */
static const char *verdict_of(const struct rule_findings *findings)
{
	static char all[512];
	size_t length = 0;

	*all = '\0';
	for (size_t i = 0; i < findings->count; i++) {
		const char *handle = strstr(findings->list[i].rule, "handle ");

		length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s%s%s", i ? ", " : "",
					   kind_names[findings->list[i].kind], handle ? " " : "",
					   handle ? handle + 7 : "");
	}
	return all;
}

struct ruleset_case {
	const char *what, *lines, *verdict;
};

static void check(const struct ruleset_case *cases, size_t count, const char *ports, bool tcp_loose)
{
	for (size_t i = 0; i < count; i++) {
		struct rule_findings findings = judge(cases[i].lines, ports, "eth0", tcp_loose);

		EXPECT_STR(verdict_of(&findings), cases[i].verdict, "%s", cases[i].what);
		findings_free(&findings);
	}
}

#define I_ACCEPT "chain i input 0 accept\n"
#define I_DROP	 "chain i input 0 drop\n"
#define R(...)	 "rule i [" __VA_ARGS__ "]\n"

CASE("ordinary rulesets are let through")
{
	static const struct ruleset_case cases[] = {
		{ "none", "", "" },
		{ "the port is accepted, the rest dropped",
		  I_DROP R(ESTABLISHED "," ACCEPT) R(P80 "," ACCEPT), "" },
		{ "the same for new connections",
		  I_DROP R(ESTABLISHED "," ACCEPT) R(IN(STATE, "'new'") "," P80 "," ACCEPT), "" },
		{ "firewalld's way of it",
		  I_ACCEPT R(ESTABLISHED "," ACCEPT) R(EQ(META("iifname"), "'lo'") "," ACCEPT)
			  R(JUMP("zones")) R(REJECT) //
		  "chain zones\nchain public\n"
		  "rule zones [" GOTO("public") "]\n"
						"rule public [" P80
						"," IN(STATE, "['new','untracked']") "," ACCEPT "]\n",
		  "" },
		{ "a port that is dropped", I_ACCEPT R(P80 "," DROP), "" },
		{ "a port that is rejected", I_ACCEPT R(P80 "," REJECT), "" },
		{ "what is never reached", I_ACCEPT R(P80 "," ACCEPT) R(P80 "," LIMIT "," DROP), "" },
		{ "another port", I_ACCEPT R(P22 "," LIMIT "," DROP), "" },
		{ "all other ports", I_ACCEPT R(NE(DPORT, "80") "," LIMIT "," DROP), "" },
		{ "a set of other ports",
		  I_ACCEPT R(EQ(DPORT, "{'set':[22,{'range':[100,200]}]}") "," LIMIT "," DROP), "" },
		{ "a named set of other ports",
		  I_ACCEPT "set s [22,25]\n" R(EQ(DPORT, "'@s'") "," LIMIT "," DROP), "" },
		{ "larger ports",
		  I_ACCEPT R("{'match':{'op':'>=','left':" DPORT ",'right':1024}}," LIMIT "," DROP), "" },
		{ "UDP and ICMP",
		  I_ACCEPT R(EQ(FIELD("udp", "dport"), "80") "," LIMIT "," DROP)
			  R(EQ(FIELD("icmp", "type"), "'echo-request'") "," LIMIT "," ACCEPT)
				  R(EQ(META("l4proto"), "'udp'") "," LIMIT "," DROP)
					  R(EQ(FIELD("ip", "protocol"), "17") "," LIMIT "," DROP),
		  "" },
		{ "another device",
		  I_ACCEPT R(EQ(META("iifname"), "'eth1'") "," P80 "," LIMIT "," DROP)
			  R(EQ(META("iifname"), "'wg*'") "," LIMIT "," DROP)
				  R(NE(META("iif"), "'eth0'") "," LIMIT "," DROP)
					  R(EQ(META("iifname"), "{'set':['a','b']}") "," LIMIT "," DROP),
		  "" },
		{ "the way out, and through",
		  "chain o output 0 accept\nrule o [" P80 "," LIMIT "," DROP "]\n"
		  "chain f forward 0 drop\nrule f [" P80 "," LIMIT "," ACCEPT "]\n"
		  "chain q postrouting 0 accept\nrule q [" P80 "," LIMIT "," DROP "]\n",
		  "" },
		{ "a limit on a log", I_DROP R(P80 "," ACCEPT) R(LIMIT ",{'log':{'prefix':'no'}}"), "" },
		{ "a limit on a log of the port", I_ACCEPT R(P80 "," LIMIT "," COUNTER ",{'log':null}"),
		  "" },
		{ "flags that are only counted", I_ACCEPT R(P80 "," EQ(FLAGS, "'syn'") "," COUNTER), "" },
		{ "floods of flags that no connection has",
		  I_ACCEPT R(EQ(AND(FLAGS, "['fin','syn']"), "['fin','syn']") "," DROP)
			  R("{'match':{'op':'!','left':" FLAGS
			    ",'right':['fin','syn','rst','psh','ack','urg']}}," DROP)
				  R(EQ(AND(FLAGS, "['fin','syn','rst','psh','ack','urg']"),
				       "['fin','psh','urg']") "," DROP),
		  "" },
		{ "sources that are only accepted",
		  I_ACCEPT R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," ACCEPT), "" },
		{ "sources that are dropped from another port",
		  I_ACCEPT R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," P22 "," DROP), "" },
		{ "sources that may reach another port alone",
		  I_DROP R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," P22 "," ACCEPT) R(P80 "," ACCEPT),
		  "" },
		{ "sources that may reach everything, the others this port",
		  I_DROP R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," ACCEPT) R(P80 "," ACCEPT), "" },
		{ "sources that the driver never answers",
		  I_ACCEPT R(EQ(FIELD("ip", "saddr"), "{'prefix':{'addr':'127.0.0.0','len':8}}") "," DROP)
			  R(EQ(FIELD("ip6", "saddr"), "'::1'") "," DROP)
				  R(EQ(FIELD("ip", "saddr"),
				       "{'set':[{'prefix':{'addr':'224.0.0.0','len':4}},"
				       "{'prefix':{'addr':'0.0.0.0','len':8}}]}") "," DROP),
		  "" },
		{ "no way back",
		  I_ACCEPT R(EQ("{'fib':{'result':'oif','flags':['saddr','iif']}}", "false") "," DROP),
		  "" },
		{ "destinations of others",
		  "chain p prerouting -300 accept\nrule p [" NE(
			  "{'fib':{'result':'type','flags':['daddr']}}", "'local'") "," DROP "]\n",
		  "" },
		{ "broadcasts",
		  I_ACCEPT R(EQ(META("pkttype"), "{'set':['broadcast','multicast']}") "," DROP), "" },
		{ "dnat of another port and of another device",
		  "chain n prerouting -100 accept\nrule n [" P22 ",{'dnat':{'addr':'10.0.0.2'}}]\n"
		  "rule n [" EQ(META("iifname"), "'eth1'") ",{'redirect':{'port':81}}]\n",
		  "" },
		{ "masquerading", "chain n postrouting 100 accept\nrule n [{'masquerade':null}]\n", "" },
		{ "Docker's published port beside ours",
		  "table ip\nchain PREROUTING prerouting -100 accept\nchain DOCKER\n"
		  "rule PREROUTING [" XT("addrtype") "," COUNTER "," JUMP(
			  "DOCKER") "] # fib daddr type local "
				    "counter packets 0 bytes 0 jump DOCKER\n"
				    "rule DOCKER [" NE(META("iifname"), "'docker0'") "," EQ(
					    DPORT, "8080") "," COUNTER "," XT_TARGET("DNAT") "]\n",
		  "" },
		{ "fail2ban on ssh",
		  "table ip\nchain INPUT input 0 accept\nchain f2b\n"
		  "rule INPUT [" EQ(META("l4proto"), "'tcp'") "," XT("multiport") "," JUMP(
			  "f2b") "] # meta l4proto tcp tcp dport { 22, 2000-2010 } counter packets 0 bytes "
				 "0 jump f2b\n"
				 "rule f2b [" EQ(FIELD("ip", "saddr"), "'1.2.3.4'") "," REJECT "]\n"
										    "rule f2b [" RETURN
										    "]\n",
		  "" },
		{ "a map of ports",
		  I_DROP R("{'vmap':{'key':" DPORT ",'data':{'set':[[22," JUMP(
			  "l") "],[80," ACCEPT "]]}}}") "chain l\nrule l [" LIMIT "," ACCEPT "]\n",
		  "" },
		{ "a named map of protocols and ports",
		  I_DROP
		  "map m [[{'concat':['tcp',22]}," JUMP("l") "],[{'concat':['tcp',80]}," ACCEPT "]]\n" R(
			  "{'vmap':{'key':{'concat':[" META(
				  "l4proto") "," FIELD("th", "dport") "]},'data':'@m'}}")
			  R(LIMIT "," DROP) "chain l\nrule l [" LIMIT "," ACCEPT "]\n",
		  "" },
		{ "drops of what is invalid, but the port is exempt from conntrack",
		  "chain p prerouting -300 accept\nrule p [" P80
		  ",{'notrack':null}]\n" I_DROP R(ESTABLISHED "," ACCEPT) R(IN(STATE, "'invalid'") "," DROP)
			  R(NE(FLAGS_FSRA, "'syn'") "," IN(STATE, "'new'") "," DROP) R(P80 "," ACCEPT),
		  "" },
		{ "the same on a router, for what is local",
		  "chain p prerouting -300 accept\nrule p [" EQ(
			  "{'fib':{'result':'type','flags':['daddr']}}",
			  "'local'") "," P80
				     ",{'notrack':null}]\n" I_DROP R(IN(STATE, "'invalid'") "," DROP)
					     R(P80 "," ACCEPT),
		  "" },
		{ "marks",
		  I_ACCEPT R(EQ(META("mark"),
				"3") ",{'mangle':{'key':{'ct':{'key':'mark'}},'value':" META("mark") "}}"),
		  "" },
	};

	check(cases, COUNT_OF(cases), "80", true);
}

CASE("rules that must see SYNs are found")
{
	static const struct ruleset_case cases[] = {
		{ "SYNs accepted", I_DROP R(P80 "," IN(FLAGS, "'syn'") "," ACCEPT), "flags 1" },
		{ "SYNs accepted, by a mask", I_DROP R(P80 "," EQ(FLAGS_FSRA, "'syn'") "," ACCEPT),
		  "flags 1" },
		{ "SYNs accepted, by a newer nft's mask",
		  I_DROP R(P80 "," EQ(AND(FLAGS, "{'|':['fin','syn','rst','ack']}"), "'syn'") "," ACCEPT),
		  "flags 1" },
		{ "SYNs in a set",
		  I_DROP R(P80 "," EQ(FLAGS, "{'set':['syn',{'|':['syn','ecn','cwr']}]}") "," ACCEPT),
		  "flags 1" },
		{ "a map of flags",
		  I_DROP R(P80 ",{'vmap':{'key':" FLAGS_FSRA ",'data':{'set':[['syn'," ACCEPT "]]}}}"),
		  "flags 1" },
		{ "SYNs marked",
		  I_ACCEPT R(P80 "," EQ(FLAGS, "'syn'") ",{'mangle':{'key':" META("mark") ",'value':1}}"),
		  "flags 1" },
		{ "SYNs sent to a chain that drops some",
		  I_ACCEPT R(EQ(FLAGS, "'syn'") "," JUMP("flood")) "chain flood\nrule flood [" LIMIT
								   "," RETURN "]\nrule flood [" DROP "]\n",
		  "flags 1, rate 2" },
		{ "no SYN, dropped behind what is established",
		  I_DROP R(ESTABLISHED "," ACCEPT) R(NE(FLAGS_FSRA, "'syn'") "," DROP) R(P80 "," ACCEPT),
		  "flags 2" },
		{ "new but no SYN", I_ACCEPT R(NE(FLAGS_FSRA, "'syn'") "," IN(STATE, "'new'") "," DROP),
		  "new 1" },
		{ "new", I_ACCEPT R(P80 "," IN(STATE, "'new'") "," DROP), "new 1" },
		{ "not established", I_ACCEPT R(NE(STATE, "'established'") "," DROP), "new 1" },
		{ "new or invalid", I_ACCEPT R(EQ(STATE, "{'set':['new','invalid']}") "," REJECT),
		  "new 1" },
		{ "invalid", I_ACCEPT R(IN(STATE, "'invalid'") "," DROP) R(P80 "," ACCEPT), "invalid 1" },
		{ "invalid, behind the port accepted if new",
		  I_ACCEPT R(P80 "," IN(STATE, "'new'") "," ACCEPT) R(IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
		{ "invalid, in a map",
		  I_ACCEPT R("{'vmap':{'key':" STATE ",'data':{'set':[['invalid'," DROP
			     "],['established'," ACCEPT "]]}}}"),
		  "invalid 1" },
		{ "invalid, by a jump",
		  I_ACCEPT R(IN(STATE, "'invalid'") "," JUMP("d")) "chain d\nrule d [" COUNTER "," DROP
								   "]\n",
		  "invalid 1" },
		{ "a rate accepted", I_DROP R(P80 "," LIMIT "," ACCEPT), "rate 1" },
		{ "a rate dropped", I_ACCEPT R(P80 "," LIMIT "," DROP), "rate 1" },
		{ "a rate of every port", I_ACCEPT R(LIMIT "," DROP), "rate 1" },
		{ "a rate by a named limit", I_ACCEPT R(P80 ",{'limit':'l'}," DROP), "rate 1" },
		{ "a quota", I_ACCEPT R(P80 ",{'quota':{'val':10,'val_unit':'mbytes','inv':true}}," DROP),
		  "rate 1" },
		{ "connections counted", I_ACCEPT R(P80 ",{'ct count':{'val':10,'inv':true}}," REJECT),
		  "rate 1" },
		{ "a meter",
		  I_DROP R(P80 ",{'meter':{'key':" FIELD("ip", "saddr") ",'stmt':" LIMIT
									",'size':1,'name':'m'}}," ACCEPT),
		  "rate 1" },
		{ "a set that packets fill",
		  I_ACCEPT R(P80 ",{'set':{'op':'add','elem':" FIELD(
			  "ip", "saddr") ",'set':'@s','stmt':[" LIMIT "]}}," DROP),
		  "rate 1" },
		{ "a set that packets fill, and nothing else",
		  I_ACCEPT R(P80 ",{'set':{'op':'update','elem':" FIELD("ip", "saddr") ",'set':'@s'}}"),
		  "rate 1" },
		{ "a queue", I_ACCEPT R(P80 ",{'queue':{'num':3,'flags':'bypass'}}"), "queue 1" },
		{ "synproxy",
		  I_ACCEPT R(P80 ",{'synproxy':{'mss':1460,'wscale':7,'flags':['timestamp','sack-perm']}}"),
		  "proxy 1" },
		{ "synproxy of what is invalid",
		  I_ACCEPT R(P80 "," IN(STATE, "['invalid','untracked']") ",{'synproxy':null}"),
		  "proxy 1" },
		{ "dnat",
		  "chain n prerouting -100 accept\nrule n [" P80
		  ",{'dnat':{'addr':'10.0.0.2','port':8080}}]\n",
		  "nat 1" },
		{ "redirect",
		  "chain n prerouting -100 accept\nrule n [" P80 ",{'redirect':{'port':8081}}]\n",
		  "nat 1" },
		{ "tproxy",
		  "chain n prerouting -150 accept\nrule n [" P80
		  ",{'tproxy':{'addr':'127.0.0.1','port':8081}},"
		  "{'mangle':{'key':" META("mark") ",'value':1}}," ACCEPT "]\n",
		  "tproxy 1" },
		{ "a source dropped", I_ACCEPT R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," DROP),
		  "source 1" },
		{ "a set of sources dropped",
		  I_ACCEPT "set bad [{'prefix':{'addr':'10.0.0.0','len':8}},'192.168.3.4']\n" R(
			  EQ(FIELD("ip", "saddr"), "'@bad'") "," DROP),
		  "source 1" },
		{ "an empty set of sources dropped",
		  I_ACCEPT "set bad []\n" R(EQ(FIELD("ip6", "saddr"), "'@bad'") "," REJECT), "source 1" },
		{ "a map of sources",
		  I_ACCEPT R("{'vmap':{'key':" FIELD("ip", "saddr") ",'data':{'set':[['10.0.0.1'," DROP
								    "]]}}}"),
		  "source 1" },
		{ "sources and ports",
		  I_ACCEPT R(EQ("{'concat':[" FIELD("ip", "saddr") "," DPORT "]}",
				"{'set':[{'concat':['1.2.3.4',80]}]}") "," DROP),
		  "source 1" },
		{ "all but one source dropped",
		  I_ACCEPT R(NE(FIELD("ip", "saddr"), "'10.0.0.1'") "," P80 "," DROP), "source 1" },
		{ "only one source accepted",
		  I_DROP R(ESTABLISHED "," ACCEPT)
			  R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," P80 "," ACCEPT),
		  "source 2" },
		{ "one source accepted, the others rejected",
		  I_ACCEPT R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," ACCEPT) R(P80 "," REJECT),
		  "source 1" },
		{ "sources that return from a chain that drops the others",
		  I_ACCEPT R(P80 "," JUMP("d")) "chain d\nrule d [" EQ(
			  FIELD("ip", "saddr"), "'10.0.0.1'") "," RETURN "]\nrule d [" DROP "]\n",
		  "source 2" },
		{ "sources that go to a chain that drops",
		  I_ACCEPT R(EQ(FIELD("ip", "saddr"), "'10.0.0.1'") "," GOTO("d")) "chain d\nrule d [" DROP
										   "]\n",
		  "source 1" },
		{ "a MAC dropped", I_ACCEPT R(EQ(FIELD("ether", "saddr"), "'00:11:22:33:44:55'") "," DROP),
		  "source 1" },
		{ "low source ports dropped",
		  I_ACCEPT R(EQ(FIELD("tcp", "sport"), "{'range':[0,1023]}") "," DROP), "source 1" },
		{ "a rate that returns from a chain that drops",
		  I_ACCEPT R(P80 "," JUMP("d")) "chain d\nrule d [" LIMIT "," RETURN "]\nrule d [" DROP
						"]\n",
		  "rate 2" },
		{ "a small MSS dropped",
		  I_ACCEPT R(EQ("{'tcp option':{'name':'maxseg','field':'size'}}",
				"{'range':[1,500]}") "," DROP),
		  "flags 1" },
		{ "MSS clamped",
		  I_ACCEPT R("{'mangle':{'key':{'tcp "
			     "option':{'name':'maxseg','field':'size'}},'value':1300}}"),
		  "flags 1" },
		{ "a system recognized by its SYN",
		  I_ACCEPT R(EQ("{'osf':{'key':'name'}}", "'Linux'") "," DROP), "flags 1" },
		{ "a window dropped", I_ACCEPT R(EQ(FIELD("tcp", "window"), "1024") "," DROP), "field 1" },
		{ "raw bytes",
		  I_ACCEPT R(EQ("{'payload':{'base':'th','offset':96,'len':16}}", "4128") "," DROP),
		  "unknown 1" },
		{ "a statement that nobody knows", I_ACCEPT R(P80 ",{'teleport':null}"), "unknown 1" },
		{ "a match that nobody knows", I_ACCEPT R(P80 "," EQ("{'aura':null}", "3") "," DROP),
		  "unknown 1" },
		{ "a set of ports",
		  I_ACCEPT R(EQ(DPORT, "{'set':[22,{'range':[70,90]}]}") "," LIMIT "," DROP), "rate 1" },
		{ "a named set of ports",
		  I_ACCEPT "set s [22,80]\n" R(EQ(DPORT, "'@s'") "," LIMIT "," DROP), "rate 1" },
		{ "all ports but another", I_ACCEPT R(NE(DPORT, "22") "," LIMIT "," DROP), "rate 1" },
		{ "a map that jumps",
		  I_ACCEPT R("{'vmap':{'key':" DPORT ",'data':{'set':[[22," ACCEPT
			     "],[80," JUMP("l") "]]}}}") "chain l\nrule l [" LIMIT "," ACCEPT "]\n",
		  "rate 2" },
		{ "a map of devices",
		  I_ACCEPT R("{'vmap':{'key':" META(
			  "iifname") ",'data':{'set':[['lo'," ACCEPT
				     "],['eth0'," GOTO("l") "]]}}}") "chain l\nrule l [" LIMIT "," ACCEPT
								     "]\n",
		  "rate 2" },
		{ "our device, by its beginning",
		  I_ACCEPT R(EQ(META("iifname"), "'eth*'") "," LIMIT "," DROP), "rate 1" },
		{ "a device's own chain",
		  "table netdev\nchain x ingress 0 accept\nrule x [" P80 "," LIMIT "," DROP "]\n",
		  "rate 1" },
		{ "several",
		  I_ACCEPT R(P80 "," LIMIT "," DROP) R(P22 "," LIMIT "," DROP)
			  R(IN(STATE, "'invalid'") "," DROP),
		  "rate 1, invalid 3" },
		{ "an exemption from conntrack that comes too late",
		  "chain p prerouting 0 accept\nrule p [" P80
		  ",{'notrack':null}]\n" I_ACCEPT R(IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
		{ "an exemption of another port",
		  "chain p prerouting -300 accept\nrule p [" P22
		  ",{'notrack':null}]\n" I_ACCEPT R(IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
		{ "an exemption of some sources",
		  "chain p prerouting -300 accept\nrule p [" EQ(
			  FIELD("ip", "saddr"),
			  "'10.0.0.1'") ",{'notrack':null}]\n" I_ACCEPT R(IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
		{ "an exemption for IPv4 alone",
		  "table ip\nchain p prerouting -300 accept\nrule p [" P80
		  ",{'notrack':null}]\ntable inet\n" I_ACCEPT R(IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
		{ "SYNs alone exempt",
		  "chain p prerouting -300 accept\nrule p [" P80
		  "," EQ(FLAGS, "'syn'") ",{'notrack':null}]\n",
		  "flags 1" },
	};

	check(cases, COUNT_OF(cases), "80", true);
}

CASE("rules of iptables-nft are found, also where JSON knows their matches by name only")
{
	static const struct ruleset_case cases[] = {
		{ "recent, set", I_ACCEPT R(P80 "," XT("recent") "," COUNTER), "recent 1" },
		{ "recent, checked", I_ACCEPT R(P80 "," XT("recent") "," COUNTER "," DROP), "recent 1" },
		{ "recent, another port", I_ACCEPT R(P22 "," XT("recent") "," COUNTER "," DROP), "" },
		{ "hashlimit", I_ACCEPT R(P80 "," XT("hashlimit") "," ACCEPT), "rate 1" },
		{ "connlimit", I_ACCEPT R(P80 "," XT("connlimit") "," XT_TARGET("REJECT")), "rate 1" },
		{ "NFQUEUE", I_ACCEPT R(P80 "," XT_TARGET("NFQUEUE")), "queue 1" },
		{ "SYNPROXY", I_ACCEPT R(P80 "," XT_TARGET("SYNPROXY")), "proxy 1" },
		{ "TPROXY", "chain p prerouting -150 accept\nrule p [" P80 "," XT_TARGET("TPROXY") "]\n",
		  "tproxy 1" },
		{ "DNAT", "chain p prerouting -100 accept\nrule p [" P80 "," XT_TARGET("DNAT") "]\n",
		  "nat 1" },
		{ "REDIRECT",
		  "chain p prerouting -100 accept\nrule p [" P80 "," XT_TARGET("REDIRECT") "]\n", "nat 1" },
		{ "iprange", I_ACCEPT R(XT("iprange") "," DROP), "source 1" },
		{ "ipset", I_ACCEPT R(XT("set") "," DROP), "source 1" },
		{ "a match that nobody knows", I_ACCEPT R(P80 "," XT("u32") "," DROP), "unknown 1" },
		{ "a target that nobody knows", I_ACCEPT R(P80 "," XT_TARGET("TARPIT")), "unknown 1" },
		{ "nothing but a name of nothing", I_ACCEPT R(P80 ",{'xt':null}," DROP), "unknown 1" },
		{ "comments, logs",
		  I_ACCEPT R(XT("comment") "," XT_TARGET("LOG")) R(XT("comment") "," ACCEPT), "" },
		{ "limit on a log", I_ACCEPT R(LIMIT "," XT_TARGET("LOG")), "" },
		{ "conntrack without its words", I_ACCEPT R(XT("conntrack") "," DROP), "unknown 1" },
	};
	/* With the text, which knows more. */
	static const struct {
		const char *what, *lines, *kind;
	} worded[] = {
		{ "invalid",
		  I_ACCEPT "rule i [" XT("conntrack") "," DROP "] # ct state invalid counter drop\n",
		  "invalid" },
		{ "new",
		  I_ACCEPT "rule i [" XT("conntrack") "," NE(
			  FLAGS_FSRA, "'syn'") "," DROP
					       "] # ct state new tcp flags != syn / fin,syn,rst,ack drop\n",
		  "new" },
		{ "not established",
		  I_ACCEPT "rule i [" XT("conntrack") "," DROP "] # ct state ! related,established drop\n",
		  "new" },
		{ "established",
		  I_DROP
		  "rule i [" XT("conntrack") "," ACCEPT
					     "] # ct state related,established accept\n" R(P80 "," ACCEPT),
		  "" },
		{ "DNATed",
		  I_DROP "rule i [" XT("conntrack") "," ACCEPT
						    "] # ct status dnat accept\n" R(P80 "," ACCEPT),
		  "" },
		{ "our port among several",
		  I_ACCEPT
		  "rule i [" XT("multiport") "," LIMIT "," DROP
					     "] # tcp dport { 22, 70-90 } limit rate 5/second drop\n",
		  "rate" },
		{ "our port alone",
		  I_ACCEPT "rule i [" XT("multiport") "," LIMIT "," DROP
						      "] # tcp dport 80 limit rate 5/second drop\n",
		  "rate" },
		{ "all but our port",
		  I_ACCEPT
		  "rule i [" XT("multiport") "," LIMIT "," DROP
					     "] # tcp dport != { 22, 80 } limit rate 5/second drop\n",
		  "" },
		{ "ufw's chain for what is not local",
		  I_DROP "chain n\nrule i [" JUMP(
			  "n") "]\n"
			       "rule n [" XT("addrtype") "," RETURN
							 "] # fib daddr type local counter return\n"
							 "rule n [" LIMIT
							 "," JUMP("log") "]\nrule n [" DROP "]\n"
									 "chain log\nrule log [" LIMIT
									 "," XT_TARGET("LOG") "]\n" R(
										 P80 "," LIMIT "," DROP),
		  "rate 6" },
		{ "notrack",
		  "chain p prerouting -300 accept\nrule p [" P80 "," XT_TARGET(
			  "CT") "] # tcp dport 80 notrack\n" I_ACCEPT R(IN(STATE, "'invalid'") "," DROP),
		  "" },
		{ "a helper",
		  "chain p prerouting -300 accept\nrule p [" P80
		  "," XT_TARGET("CT") "] # tcp dport 80 xt target CT\n" I_ACCEPT R(
			  IN(STATE, "'invalid'") "," DROP),
		  "invalid 2" },
	};

	check(cases, COUNT_OF(cases), "80", true);
	for (size_t i = 0; i < COUNT_OF(worded); i++) {
		struct rule_findings findings = judge(worded[i].lines, "80", "eth0", true);

		EXPECT_STR(verdict_of(&findings), worded[i].kind, "%s", worded[i].what);
		findings_free(&findings);
	}
}

CASE("nf_conntrack_tcp_loose=0 counts where conntrack is in use, and the port is not exempt")
{
	static const struct ruleset_case cases[] = {
		{ "no rule", "", "" },
		{ "no conntrack", I_DROP R(P80 "," ACCEPT), "" },
		{ "conntrack in some rule", I_DROP R(ESTABLISHED "," ACCEPT) R(P80 "," ACCEPT), "loose" },
		{ "conntrack for nat on the way out",
		  "chain n postrouting 100 accept\nrule n [{'masquerade':null}]\n", "loose" },
		{ "exempt",
		  "chain p prerouting -300 accept\nrule p [" P80
		  ",{'notrack':null}]\n" I_DROP R(ESTABLISHED "," ACCEPT) R(P80 "," ACCEPT),
		  "" },
	};

	check(cases, COUNT_OF(cases), "80", false);
}

CASE("a chain of type nat counts for its family, unless the port is exempt from conntrack")
{
	static const struct ruleset_case cases[] = {
		{ "on the way out, without a rule", "natchain n postrouting 100\n", "nat chain" },
		{ "of IPv4", "table ip\nnatchain n postrouting 100\n", "nat chain" },
		{ "of IPv6", "table ip6\nnatchain n output -100\n", "nat chain" },
		{ "of either family, each once",
		  "table ip\nnatchain n postrouting 100\nnatchain m input 100\ntable ip6\nnatchain n "
		  "postrouting 100\n",
		  "nat chain, nat chain" },
		{ "of bridges", "table bridge\nnatchain n postrouting 100\n", "" },
		{ "the port is exempt",
		  "chain p prerouting -300 accept\nrule p [" P80
		  ",{'notrack':null}]\nnatchain n postrouting 100\n",
		  "" },
		{ "another port is exempt",
		  "chain p prerouting -300 accept\nrule p [" P22
		  ",{'notrack':null}]\nnatchain n postrouting 100\n",
		  "nat chain" },
		{ "the port is dropped before conntrack sees it",
		  "chain p prerouting -300 drop\nnatchain n postrouting 100\n", "" },
	};

	check(cases, COUNT_OF(cases), "80", true);
}

CASE("chains of other devices do not count, by JSON or by text")
{
	static const struct {
		const char *declaration;
		bool counts;
	} chains[] = {
		{ "", true },
		{ " # type filter hook ingress device \"eth0\" priority filter; policy accept;", true },
		{ " # type filter hook ingress device \"eth01\" priority filter; policy accept;", false },
		{ " # type filter hook ingress devices = { eth1, eth0 } priority filter; policy accept;",
		  true },
		{ " # type filter hook ingress devices = { \"eth1\", \"xeth0\" } priority filter;", false },
	};

	for (size_t i = 0; i < COUNT_OF(chains); i++) {
		struct rule_findings findings;
		char lines[512];

		snprintf(lines, sizeof(lines),
			 "table netdev\nchain x ingress 0 accept%s\nrule x [" P80 "," LIMIT "," DROP "]\n",
			 chains[i].declaration);
		findings = judge(lines, "80", "eth0", true);
		EXPECT_EQ(findings.count, chains[i].counts, "'%s'", chains[i].declaration);
		findings_free(&findings);
	}
}

CASE("a rule is named as nft prints it; what is long is cut, what cannot be printed is blank")
{
	char lines[1024], word[400];
	struct rule_findings findings;

	findings = judge(I_ACCEPT "rule i [" P80 "," LIMIT "," DROP
				  "] # tcp dport 80 limit rate 10/second drop\n",
			 "80", "eth0", true);
	REQUIRE(findings.count == 1);
	EXPECT_STR(findings.list[0].rule, "inet t i: tcp dport 80 limit rate 10/second drop");
	findings_free(&findings);
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	snprintf(lines, sizeof(lines),
		 I_ACCEPT "rule i [" P80 "," LIMIT "," DROP "] # comment \"\033[1m%s\"\n", word);
	findings = judge(lines, "80", "eth0", true);
	REQUIRE(findings.count == 1);
	EXPECT_EQ(strlen(findings.list[0].rule), RULE_TEXT - 1);
	EXPECT_STR(findings.list[0].rule + RULE_TEXT - 6, "xx...");
	EXPECT(!strchr(findings.list[0].rule, '\033'));
	findings_free(&findings);
	for (int kind = 0; kind < RULE_KINDS; kind++)
		EXPECT(*rule_reason(kind) && *rule_remedy(kind), "kind %d", kind);
}

CASE("jumps in a circle, and more of them than anybody follows, end")
{
	static const struct ruleset_case cases[] = {
		{ "a circle",
		  I_ACCEPT
		  "chain a\nchain b\n" R(JUMP("a")) "rule a [" JUMP("b") "]\nrule b [" JUMP("a") "]\n",
		  "endless 3" },
		{ "nowhere", I_ACCEPT R(JUMP("nowhere")) R(P80 "," LIMIT "," DROP), "rate 2" },
	};
	char lines[16384] = I_ACCEPT;
	struct rule_findings findings;
	size_t length = strlen(lines);

	check(cases, COUNT_OF(cases), "80", true);
	/* Fifteen chains, each of which jumps ten times to the next one. */
	for (int i = 0; i < 15; i++)
		for (int j = 0; j <= 10; j++)
			length += (size_t)(j ? snprintf(lines + length, sizeof(lines) - length,
							"rule %s%d [{'jump':{'target':'c%d'}}]\n",
							i ? "c" : "i", i, i + 1)
					     : snprintf(lines + length, sizeof(lines) - length,
							"chain %s%d\n", i ? "c" : "i", i));
	snprintf(lines + length, sizeof(lines) - length, "chain c15\nrule i [{'jump':{'target':'i0'}}]\n");
	findings = judge(lines, "80", "eth0", true);
	EXPECT_STR(verdict_of(&findings), "endless");
	findings_free(&findings);
}

CASE("what is no ruleset is said to be none")
{
	static const char *const texts[] = { "{}", "[]", "3", "{\"nftables\":{}}", "null" };
	const char *device = "eth0";
	struct port_set ports = {};
	struct ruleset_question question = { .ports = &ports, .devices = &device, .device_count = 1 };

	for (size_t i = 0; i < COUNT_OF(texts); i++) {
		json_t *json = json_loads(texts[i], JSON_DECODE_ANY, NULL);
		struct rule_findings findings = {};

		EXPECT(!ruleset_judge(json, NULL, &question, &findings), "%s", texts[i]);
		EXPECT_EQ(findings.count, 0);
		json_decref(json);
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
