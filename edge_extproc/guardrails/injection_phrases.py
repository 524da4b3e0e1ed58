"""Phrases by which a text tries to instruct a model against its own instructions.

A family has words, one of which a text must have, and a pattern of what must be beside the word. All is in lower case,
and digits that stand for letters are letters. Patterns are RE2, in UTF-8.
"""

# ruff: noqa: E501 - each family is one row of a table

from __future__ import annotations

from typing import Final

from ..model.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class PhraseFamily:
    """`before`: bytes in front of a word in which a match may begin. 0: it begins with the word."""

    label: str
    words: tuple[str, ...]
    pattern: str
    before: int = 0
    external: bool = False
    """Only in texts that come from elsewhere: results of tools, addresses, names of files."""


# Words that are left out or added, with any punctuation. Joined letters have nothing between words.
_FILL: Final = r"(?:a[li]{2}|any|of|the|your|my|our|these|those|every|each|other|and|or|to|that|you|were|was|have|been|it|any of|[\s\pP\pS_]){0,24}"
_SIGNS: Final = r"[\s\pP\pS_]{0,6}"
_EARLIER: Final = "(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|former|past|initial|original|existing|system|developer|safety|given|current|aforementioned)"
_INSTRUCTIONS: Final = "(?:instructions?|prompts?|directions?|directives?|guidelines?|guardrails?|rules?|commands?|orders?|constraints?|polic(?:y|ies)|programming|training|restrictions?)"
_GAP: Final = r"[^.!?\n]{0,40}?"


def _phrase(label: str, words: str, pattern: str, *, before: int = 0, external: bool = False) -> PhraseFamily:
    return PhraseFamily(label, tuple(word.replace("+", " ") for word in words.split()), pattern, before, external)


FAMILIES: Final = (
    # English
    _phrase(
        "instruction_override",
        "ignor disregard forget neglect discard",
        rf"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|neglect|discard){_FILL}(?:about|everything|anything|what)?{_FILL}"
        rf"(?:{_EARLIER}{_FILL}{_INSTRUCTIONS}|{_INSTRUCTIONS}{_FILL}(?:above|before|given|earlier|previously|from before)|(?:your|a[li]{{2}}){_FILL}{_INSTRUCTIONS}\b)",
    ),
    _phrase(
        "instruction_override",
        "ignor disregard forget",
        rf"(?:ignore|disregard|forget){_FILL}(?:everything|anything|what|a[li]{{2}}|what's|whatever)[\s\pP]{{0,4}}(?:that )?{_FILL}"
        r"(?:above|before this|said before|told before|told you|you were told|you have been told|you know|said so far|previously)",
    ),
    _phrase(
        "instruction_override",
        "override overrid bypass circumvent",
        rf"(?:override|overriding|bypass|circumvent){_FILL}(?:your|system|safety|previous|prior|developer){_FILL}"
        r"(?:system|safety|content)?[\s\pP]{0,4}(?:prompts?|instructions?|guidelines?|guardrails?|programming|filters?|directives?)",
    ),
    _phrase(
        "instruction_override",
        "follow obey comply",
        rf"(?:don'?t|do not|never|stop|no longer|not) (?:follow(?:ing)?|obey(?:ing)?|comply(?:ing)? with){_FILL}"
        rf"(?:{_EARLIER}{_FILL}{_INSTRUCTIONS}|your{_FILL}{_INSTRUCTIONS})",
        before=16,
    ),
    _phrase(
        "new_instructions",
        "your+new your+real your+actual your+true your+updated",
        r"your (?:new|real|actual|true|updated) (?:and \w{1,12} )?(?:instructions?|objectives?|mission|directives?|task|goal|orders?|role) (?:is|are|will be|now)\b",
        external=True,
    ),
    _phrase(
        "persona",
        "you+are+now you're+now act+as pretend roleplay",
        r"(?:you are now|you're now|act as|pretend (?:to be|that you are|you are)|roleplay as) "
        r"(?:[\w'\-]{1,16} ){0,3}(?:dan\b|stan\b|jailbroken|unrestricted|unfiltered|uncensored|unaligned|evil|in (?:developer|debug|god|dan|jailbreak) mode|free (?:of|from) (?:all |any |your )?(?:restrictions|rules|limits|guidelines))",
    ),
    _phrase(
        "persona",
        "pretend you+have+no act+as+if",
        r"(?:pretend|act as if|imagine)?[\s\pP]{0,4}(?:that )?you (?:have no|don't have any|do not have any|are not bound by|aren't bound by) (?:[\w']{1,12} ){0,3}(?:restrictions|rules|guidelines|limitations|limits|filters|ethic\w{0,8})",
    ),
    _phrase(
        "persona",
        "developer+mode dan+mode god+mode jailbreak+mode do+anything+now",
        r"(?:do anything now|(?:enable|activate|enter|enabled|activated|switch to|start)[\s\pP]{1,4}(?:the )?(?:developer|dan|god|jailbreak) mode|(?:developer|dan|god|jailbreak) mode[\s\pP]{1,4}(?:enabled|activated|unlocked|on\b))",
        before=20,
    ),
    _phrase(
        "prompt_leak",
        "reveal reveai print repeat output display show leak expose disclose recite",
        rf"(?:revea[li]|print|repeat|output|display|show|leak|expose|disclose|recite){_FILL}(?:me|us|back|out|verbatim)?{_FILL}"
        rf"(?:(?:full|exact|entire|complete|whole|hidden|secret|initial|original){_SIGNS}){{0,3}}(?:system{_SIGNS}(?:prompt|message|instructions?)|(?:hidden|secret|initial|original){_SIGNS}(?:instructions?|prompt|system)|(?:instructions?|prompt|text|words|everything){_SIGNS}(?:above|before this))",
    ),
    _phrase(
        "exfiltration",
        "send post upload forward exfiltrat transmit leak e-mail email submit append include",
        r"(?:send|post|upload|forward|exfiltrate|transmit|leak|e-?mail|submit|append|include)(?:[^\n]{0,48}?)"
        r"(?:api[ _-]?keys?|credentials?|passwords?|secrets?|access tokens?|environment variables?|env vars?|\.env\b|ssh keys?|private keys?|id_rsa|chat history|conversation(?: history)?|system prompt|user'?s? (?:data|files|messages|emails)|personal (?:data|information)|browser cookies)"
        r"(?:[^\n]{0,40}?)\b(?:to|at|in|as|via|into)\b[^\n]{0,24}?(?:https?://|ftp://|[\w.+-]{1,40}@[\w-]{1,40}\.|attacker|webhook|query (?:string|parameter)|url)",
        external=True,
    ),
    _phrase(
        "exfiltration",
        "~/.ssh id_rsa .aws/credentials mcp.json /etc/passwd /etc/shadow .env .netrc .npmrc",
        r"(?:\breads? |\bcat |\bopen |\baccess |\bfetch |\bload |contents? of )[^\n]{0,60}?(?:~/\.ssh|id_rsa|\.aws/credentials|mcp\.json|/etc/passwd|/etc/shadow|\.env\b|\.netrc|\.npmrc)[^\n]{0,120}?"
        r"(?:\bpass |\bsend |\bpost |\binclude |\bappend |\bprovide |\bupload |as (?:the |a |an )?(?:value|argument|parameter|sidenote|note))",
        before=90,
        external=True,
    ),
    _phrase(
        "concealment",
        "the+user to+user anyone human",
        r"(?:do not|don't|never|without) (?:tell(?:ing)?|inform(?:ing)?|notify(?:ing)?|alert(?:ing)?|ask(?:ing)?|reveal(?:ing)? (?:this|it) to)[\s\pP]{1,3}(?:the user|anyone|any human|the human)[^\n]{0,80}?"
        r"(?:send|upload|forward|transfer|delete|execut|run |call |download|install|pay|purchase|instruction|credential|password|key\b)",
        before=48,
        external=True,
    ),
    # Marks of chat formats, which only a gateway or a host writes
    _phrase(
        "chat_markup",
        "<|im_start|> <|start_header_id|> <|system|> <<sys>> <start_of_turn> <|begin_of_text|> <|channel|>",
        r"(?:<\|im_start\|>[\s\pP]{0,4}(?:system|user|assistant|developer)|<\|start_header_id\|>[\s\pP]{0,4}(?:system|user|assistant)|<\|system\|>|<<sys>>|<start_of_turn>[\s\pP]{0,4}(?:user|model|system)|<\|begin_of_text\|>|<\|channel\|>[\s\pP]{0,4}(?:analysis|final|commentary))",
        external=True,
    ),
    # German
    _phrase(
        "instruction_override",
        "ignorier vergiss vergessen missacht",
        rf"(?:ignorier(?:e|en sie)?|vergiss|vergessen sie|missachten? ?(?:sie)?){_GAP}(?:vorherig|bisherig|vorig|obig|fr(?:ü|ue)her|vorangegangen|vorhergehend|urspr(?:ü|ue)nglich|dein|ihre){_GAP}(?:anweisung|instruktion|befehl|regel|vorgabe|richtlinie|prompt)",
    ),
    # French
    _phrase(
        "instruction_override",
        "ignore ignorez oublie oubliez tiens+pas tenez+pas",
        rf"(?:ignore[zr]?|oublie[zr]?|(?:tiens|tenez) pas compte){_GAP}(?:instructions?|consignes?|directives?|r(?:è|e)gles?|ordres?|indications?){_GAP}(?:pr(?:é|e)c(?:é|e)dent|ant(?:é|e)rieur|ci-dessus|pr(?:é|e)alable|initiale|du syst(?:è|e)me)",
    ),
    # Spanish, Portuguese, Italian
    _phrase(
        "instruction_override",
        "ignor olvid omite omita caso+omiso desobede esque desconsider dimentic trascura",
        rf"(?:ignora|ignore|ignorar|olvida|olvide|olvidar|omite|omita|caso omiso|desobede\w{{1,4}}|esque(?:ç|c)a|esquecer|desconsidere|desconsidera|dimentica|dimenticare|trascura){_GAP}"
        rf"(?:instrucciones|(?:ó|o)rdenes|indicaciones|reglas|directrices|instru(?:ç|c)(?:õ|o)es|ordens|regras|diretrizes|comandos|istruzioni|indicazioni|regole|direttive|comandi){_GAP}(?:anterior|previ|pr(?:é|e)via|preced|de arriba|acima|del sistema|do sistema|di sistema|sopra)",
    ),
    # Dutch, Polish, Swedish, Turkish, Indonesian, Vietnamese
    _phrase("instruction_override", "negeer vergeet", rf"(?:negeer|vergeet){_GAP}(?:vorige|eerdere|voorgaande|bovenstaande){_GAP}(?:instructie|opdracht|regel|aanwijzing|bevel)"),
    _phrase("instruction_override", "zignoruj ignoruj zapomnij pomi", rf"(?:zignoruj|ignoruj|zapomnij|pomi(?:ń|n)){_GAP}(?:poprzedni|wcze(?:ś|s)niejsz|powy(?:ż|z)sz){_GAP}(?:instrukcj|polece|zasad|wytyczn)"),
    _phrase("instruction_override", "ignorera glöm bortse", rf"(?:ignorera|gl(?:ö|o)m|bortse fr(?:å|a)n){_GAP}(?:tidigare|föreg(?:å|a)ende|ovanst(?:å|a)ende){_GAP}(?:instruktion|anvisning|regl|order)"),
    _phrase("instruction_override", "talimat komut", rf"(?:(?:ö|o)nceki|yukar(?:ı|i)daki|t(?:ü|u)m){_GAP}(?:talimat|komut)\pL{{0,8}}{_GAP}(?:yok say|g(?:ö|o)rmezden gel|unut|dikkate alma)", before=60),
    _phrase("instruction_override", "abaikan lupakan", rf"(?:abaikan|lupakan){_GAP}(?:instruksi|perintah|aturan|petunjuk){_GAP}(?:sebelumnya|di atas|terdahulu)"),
    _phrase("instruction_override", "bỏ+qua phớt+lờ quên", rf"(?:bỏ qua|phớt lờ|quên){_GAP}(?:hướng dẫn|chỉ dẫn|lệnh|chỉ thị|quy tắc){_GAP}(?:trước|trên)"),
    _phrase("instruction_override", "ignoruj zapome", rf"(?:ignoruj(?:te)?|zapome(?:ň|n)(?:te)?){_GAP}(?:p(?:ř|r)edchoz|d(?:ř|r)(?:í|i)v(?:ě|e)j(?:š|s)){_GAP}(?:pokyn|instrukc|pravid|p(?:ř|r)(?:í|i)kaz)"),
    _phrase("instruction_override", "unohda ohita sivuuta", rf"(?:unohda|ohita|sivuuta){_GAP}(?:aiem|aikaisem|edelli){_GAP}(?:ohje|käsky|sääntö|säänn|määräy)"),
    _phrase("instruction_override", "αγνόησε αγνοήστε ξέχασε ξεχάστε", rf"(?:αγνόησε|αγνοήστε|ξέχασε|ξεχάστε){_GAP}(?:προηγούμεν|παραπάνω|αρχικ){_GAP}(?:οδηγί|εντολ|κανόν)"),
    _phrase("instruction_override", "เพิกเฉย ละเว้น ไม่ต้องสนใจ ลืม", r"(?:เพิกเฉย|ละเว้น|ไม่ต้องสนใจ|ลืม)[^.!?\n]{0,12}(?:คำสั่ง|คำแนะนำ|กฎ)[^.!?\n]{0,12}(?:ก่อนหน้า|ข้างต้น|เดิม)"),
    # Russian, Ukrainian
    _phrase("instruction_override", "игнорируй проигнорируй забудь ігноруй проігноруй", rf"(?:про)?(?:игнорируй|игнорируйте|забудь|забудьте|ігноруй|ігноруйте){_GAP}(?:предыдущ|прежн|вышеуказан|предшеств|все|системн|попередн|усі|всі){_GAP}(?:инструкц|указани|команд|правил|інструкц|вказівк)", before=6),
    # Chinese, Japanese, Korean
    _phrase("instruction_override", "忽略 无视 無視 忘记 忘記 忘掉 不要理会 忽視", r"(?:忽略|无视|無視|忘记|忘記|忘掉|不要理会|忽視)[^。！？\n]{0,8}(?:之前|以上|先前|前面|上面|上述|此前|原有|所有|系统|系統|一切)[^。！？\n]{0,8}(?:指令|指示|提示|说明|說明|规则|規則|命令|要求|设定|設定)"),
    _phrase("instruction_override", "指示 命令 プロンプト ルール", r"(?:以前|上記|これまで|前|先ほど|すべて|全て|システム)[^。！？\n]{0,8}(?:指示|命令|プロンプト|ルール)[^。！？\n]{0,8}(?:無視|忘れ|従わ)", before=48),
    _phrase("instruction_override", "지시 명령 지침 프롬프트", r"(?:이전|위의|앞선|모든|기존|시스템)[^.!?\n]{0,10}(?:지시|명령|지침|프롬프트)[^.!?\n]{0,10}(?:무시|잊)", before=48),
    # Arabic, Hindi
    _phrase("instruction_override", "تجاهل انسَ انس تجاهلي", r"(?:تجاهل|تجاهلي|انسَ|انس)[^.!؟\n]{0,20}(?:التعليمات|الأوامر|التوجيهات|القواعد)[^.!؟\n]{0,12}(?:السابقة|أعلاه|المذكورة)"),
    _phrase("instruction_override", "निर्देश आदेश", r"(?:पिछले|पिछली|उपरोक्त|पहले|सभी)[^।!?\n]{0,16}(?:निर्देश|आदेश)[^।!?\n]{0,16}(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल)", before=80),
)  # fmt: skip
