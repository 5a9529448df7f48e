"""What servers say when they do not answer, what it means, and what is done: one table.

A line applies where the status fits and, if the line names any, one of the error's codes or its
message does. The first line that applies counts: so lines for one row come before those that speak
of all, and lines that know a text come before those that know a status alone. What no line knows is
judged by whether other rows are answered (`judgement`).

Each line has examples, as servers send them, and a source. A test plays each example to the client.
"""

from __future__ import annotations

from tutelage.teacher.engine.fault_kinds import REFUSED, Action, Example, FaultLine, pattern

TABLE: tuple[FaultLine, ...] = (
    FaultLine(
        "a limit by the day (or longer)",
        Action.STOP_LATER,
        frozenset({200, 400, 402, 403, 429}),
        (
            Example(
                429,
                "rate_limit_exceeded",
                "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, "
                "Requested 1. Please try again in 7m12s.",
            ),
            Example(429, "", "Rate limit exceeded: free-models-per-day"),
            Example(429, "", "This request exceeds your organization's daily rate limit."),
            Example(429, "RESOURCE_EXHAUSTED", "Quota exceeded: GenerateRequestsPerDayPerProject"),
            Example(429, "RequestsPerDayPerProjectPerModel-FreeTier", "Please retry in 34.1s."),
        ),
        "https://ai.google.dev/gemini-api/docs/rate-limits",
        pattern(r"(?:daily|weekly|monthly|per_?day|per_?month)|[\w-]*Per(?:Day|Month)[\w-]*"),
        pattern(
            r"""\b(?:per|a|each)[ _-]?(?:calendar[ ])?(?:day|week|month)\b|per-day|PerDay|PerMonth
            |\b(?:RPD|TPD)\b|\b(?:daily|weekly|monthly)\b.{0,40}\b(?:limit|quota|usage|allowance|cap)
            |\b(?:limit|quota|usage|allowance)\b.{0,30}\b(?:today|this[ ]month|daily|weekly)\b"""
        ),
    ),
    FaultLine(
        "a quota for the minute, with the words of an empty account",
        Action.RETRY,
        frozenset({429}),
        (
            Example(
                429,
                "RESOURCE_EXHAUSTED",
                "You exceeded your current quota, please check your plan and billing details. "
                "Quota exceeded for metric: requests_per_minute, limit: 15. Please retry in 34.1s.",
            ),
        ),
        "https://ai.google.dev/gemini-api/docs/rate-limits",
        None,
        pattern(r"please[ ]retry[ ]in[ ][\d.]+|per[ _-]?minute|PerMinute"),
    ),
    FaultLine(
        "an account that cannot pay, or is closed",
        Action.STOP_ACCOUNT,
        REFUSED | {429},
        (
            Example(429, "insufficient_quota", "You exceeded your current quota."),
            Example(
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the API. Please purchase credits.",
            ),
            Example(
                400,
                "Arrearage",
                "Access denied, please make sure your account is in good standing.",
            ),
            Example(403, "", "Access denied due to overdue account"),
            Example(402, "invalid_request_error", "Insufficient Balance"),
            Example(429, "1113", "Insufficient balance or no resource package. Please recharge."),
            Example(403, "unsupported_country_region_territory", "Country not supported"),
            Example(412, "", "Account is suspended, please add a payment method"),
            Example(200, "", "insufficient balance"),
            Example(402, "billing_error", "There is an issue with your payment."),
            Example(429, "enforced_spend_limit_reached", "Usage has been reached."),
            Example(400, "", "You have reached your specified API usage limits."),
            Example(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
            Example(200, "PUP_LIMITED_DISABLED"),
            Example(400, "organization_restricted", "Organization has been restricted."),
            Example(403, "", "Key limit exceeded (total limit). Manage it in the settings."),
        ),
        "https://github.com/anthropics/claude-quickstarts/issues/229, "
        "https://learn.microsoft.com/en-us/microsoft-cloud/dev/dev-proxy/concepts/"
        "anthropic-529-overloaded-error, "
        "https://api-docs.deepseek.com/quick_start/error_codes",
        pattern(
            r"""insufficient_(?:quota|balance|funds|credits?)|billing_\w+|account_deactivated
            |arrearage|exceeded_current_quota\w*|payment_required|unsupported_country\w*
            |\w*spend_limit_reached|\w*credit_balance\w*|pup_limited\w*|organization_on_hold"""
        ),
        pattern(
            r"""(?:credits?|balance|funds|quota)\b[^.]{0,40}\b(?:too[ ]low|insufficient|exhausted
              |depleted|negative|used[ ]up|run[ ]out|expired|not[ ](?:enough|sufficient))
            |(?:insufficient|not[ ]enough|no(?:[ ]remaining)?|out[ ]of|run[ ]out[ ]of|low)
              [ ](?:account[ ])?(?:credits?|balance|funds|quota)\b
            |exceeded[ ]your[ ](?:current[ ])?quota|(?:hard|spending|spend|usage|credit)[ ]limit
              [^.]{0,40}(?:reached|exceeded|hit)|\bkey[ ]limit[ ]exceeded
            |(?:reached|exceeded|hit)[ ]your[^.]{0,30}usage[ ]limits|billing|arrears
            |overdue|top[ -]up|recharge|good[ ]standing|payment[ ](?:required|method|failed)|unpaid
            |(?:account|organi[sz]ation)\b[^.]{0,40}\b(?:suspended|restricted|on[ ]hold|deactivated
              |disabled|blocked|terminated|banned|flagged|closed|frozen|locked|inactive
              |not[ ]active)
            |(?:country|location)[^.]{0,30}not[ ]supported|余额不足|欠费"""
        ),
    ),
    FaultLine(
        "the content filter, or moderation, refused this row",
        Action.KEEP_REFUSAL,
        REFUSED,
        (
            Example(400, "content_filter", "The response was filtered due to the prompt."),
            Example(403, "", "m requires moderation. Your input was flagged for violence."),
            Example(400, "data_inspection_failed", "Input data may contain inappropriate content."),
            Example(
                400, "invalid_prompt", "Your prompt was flagged as violating our usage policy."
            ),
            Example(422, "", "Blocked for safety reasons: PROHIBITED_CONTENT"),
        ),
        "https://openrouter.ai/docs/errors, "
        "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter",
        pattern(
            r"""content_?filter\w*|content_policy_violation|data_?inspection_?failed
            |ResponsibleAIPolicyViolation|moderation\w*|sensitive_?\w*|prohibited_content|safety\w*"""
        ),
        pattern(
            r"""content[ _-]?(?:filter|policy|polic(?:y|ies)|management[ ]policy|safety|moderation)
            |\bmoderation\b|(?:input|prompt|content|output|text|message|request)s?
              [ ](?:was|were|is|has[ ]been|have[ ]been)[ ](?:flagged|blocked|filtered|rejected)
            |inappropriate[ ]content|usage[ ]polic(?:y|ies)|responsible[ ]ai
            |safety[ ](?:system|filter|policy|reasons|settings)|prohibited[ _]?content
            |new_sensitive|sensitive[ ](?:content|words?|information)|content[ ]exists[ ]risk
            |harmful[ ]content"""
        ),
    ),
    FaultLine(
        "this row does not fit, or cannot be read",
        Action.FAIL_REQUEST,
        frozenset({200, 400, 413, 422}),
        (
            Example(
                400,
                "context_length_exceeded",
                "This model's maximum context length is 8192 tokens.",
                {"max_tokens": 400},
            ),
            Example(
                400,
                "BadRequestError",
                "'max_tokens' is too large: 400. This model's maximum context length is 4096 "
                "tokens and your request has 4000 input tokens.",
                {"max_tokens": 400},
            ),
            Example(400, "", "prompt is too long: 250000 tokens > 200000 maximum"),
            Example(400, "", "max_tokens must be at least 1, got -186."),
            Example(400, "exceed_context_size_error", "the request exceeds the context size"),
            Example(422, "", "Input validation error: `inputs` tokens must be <= 1000"),
            Example(
                422,
                "",
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.",
                {"max_tokens": 400},
            ),
            Example(400, "invalid_value", "Invalid 'messages[0].content'."),
        ),
        "https://github.com/vllm-project/vllm/issues/20409, "
        "https://github.com/vllm-project/vllm/issues/4667",
        pattern(
            r"context_length_exceeded|exceed_context_size_error|string_too_long|request_too_large"
        ),
        pattern(
            r"""context[ _](?:length|window|size|limit)|\btoo[ ]long\b
            |too[ ]many[ ](?:input[ ])?tokens(?!.*\bwait\b)
            |`?inputs`?[ ](?:tokens[ ]\+|must[ ]have[ ]less)
            |(?:maximum|max)[ ](?:input|prompt|sequence)[ ](?:length|tokens|size)
            |(?:prompt|input|request|message)s?`?[ ](?:tokens?[ ])?(?:length[ ])?
              (?:exceeds?|must[ ]be[ ]<|is[ ]too[ ]large|are[ ]too[ ]large|larger[ ]than)
            |reduce[ ](?:the|your)[ ](?:length|prompt|input)|must[ ]be[ ]at[ ]least[ ]1,[ ]got[ ]-
            |invalid[ ]['"`]?(?:messages|prompt|input)\b|\bmessages?(?:\[|\.)\d+"""
        ),
    ),
    FaultLine(
        "a row that is larger than the server takes",
        Action.FAIL_REQUEST,
        frozenset({413}),
        (Example(413, "", "Request Entity Too Large"),),
        "https://www.rfc-editor.org/rfc/rfc9110#name-413-content-too-large",
    ),
    FaultLine(
        "too many requests, or a server that is busy",
        Action.RETRY,
        frozenset({200, *range(400, 600)}),
        (
            Example(429, "rate_limit_exceeded", "Please try again later."),
            Example(400, "", "The server is overloaded, please try again later."),
            Example(403, "", "Too many concurrent requests"),
            Example(
                400, "ThrottlingException", "Too many tokens, please wait before trying again."
            ),
        ),
        "https://platform.openai.com/docs/guides/error-codes",
        pattern(
            r"rate_?limit(?:_exceeded|_error|ed)?|overloaded\w*|server_busy|engine_overloaded\w*"
            r"|Throttl\w+"
        ),
        pattern(
            r"""overloaded|(?:at|over)[ ]capacity|temporarily[ ](?:unavailable|rate)
            |server[ ]is[ ]busy|too[ ]many[ ](?:concurrent[ ])?requests
            |(?:try|retry)[ ](?:again[ ])?later"""
        ),
    ),
    FaultLine(
        "a wrong or missing key",
        Action.STOP_KEY,
        REFUSED,
        (
            Example(401, "invalid_api_key", "Incorrect API key provided."),
            Example(400, "", "Incorrect API key provided: na***ys."),
            Example(400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key."),
            Example(403, "", "bad key"),
            Example(422, "", "Your authentication token has expired"),
            Example(200, "", "invalid api key"),
            Example(403, "", "The security token included in the request is expired"),
        ),
        "https://github.com/continuedev/continue/issues/10778, "
        "https://github.com/continuedev/continue/issues/8516",
        pattern(
            r"invalid_?api_?key|api_?key_?invalid|invalid_?authentication|authentication_error"
            r"|unauthorized|UNAUTHENTICATED|invalid_?token|AuthenticationError"
        ),
        pattern(
            r"""(?:incorrect|invalid|bad|wrong|missing|unknown|expired|revoked|malformed|disabled
              |no|not[ ]a[ ]valid)[ ](?:\w+[ ]){0,2}?(?:api[ _-]?key|access[ ]token|credentials?
              |(?:auth(?:entication|orization)?|bearer)[ ](?:token|header|key))
            |^(?:incorrect|invalid|bad|wrong|missing)[ ]key\b
            |(?:api[ _-]?key|(?:auth\w*|bearer|access)[ ]token)[ ](?:\S+[ ]){0,3}?
              (?:not[ ]valid|invalid|incorrect|not[ ]found|expired|missing|required|disabled
              |revoked)
            |security[ ]token[^.]{0,30}(?:invalid|expired)
            |authentication[ ](?:fails?|failed|error|required|is[ ]required)|unauthori[sz]ed"""
        ),
    ),
    FaultLine(
        "a model that is not served, or no longer",
        Action.STOP_MODEL,
        frozenset({200, 400, 401, 403, 404, 410, 422}),
        (
            Example(404, "model_not_found", "The model `m` does not exist"),
            Example(400, "model_decommissioned", "The model `m` has been decommissioned."),
            Example(404, "", "model 'm' not found, try pulling it first"),
            Example(404, "DeploymentNotFound", "The API deployment does not exist."),
            Example(400, "", "gpt-4.1-mini is not a valid model ID"),
            Example(400, "", "The model gpt-4.1-mini has been retired."),
            Example(404, "", "No endpoints found for m."),
            Example(400, "", "Model unloaded."),
            Example(403, "", "You don't have access to the model with the specified model ID."),
            Example(403, "model_permission_blocked_org", "m is blocked for the organization"),
        ),
        "https://github.com/atiilla/sqlmap-ai/issues/3, https://console.groq.com/docs/deprecations",
        pattern(
            r"""\w*model_?(?:is_|was_)?(?:not_?(?:found|available|supported|exist)|decommissioned
            |deprecated|retired|permission\w*)\w*|invalid_model|unknown_model|DeploymentNotFound|ModelNotFound\w*"""
        ),
        pattern(
            r"""\bmodel\b(?:[^.]|\.(?=\S))*?\b(?:deprecated|retired|decommissioned|shut[ ]?down
              |does[ ]not[ ]exist|doesn't[ ]exist|no[ ]longer[ ](?:served|available|supported)
              |not[ ]found|not[ ]loaded|unloaded|identifier[ ]is[ ]invalid
              |on-demand[ ]throughput[ ]isn.t[ ]supported
              |is[ ]not[ ](?:available|enabled|accessible))\b
            |(?:no[ ]such|unknown|invalid|unsupported|not[ ]a[ ]valid)[ ]model\b(?![ _-]?param)
            |access[ ]to[ ]the[ ]model|no[ ]endpoints[ ]found
            |deployment\b[^.]*\bdoes[ ]not[ ]exist"""
        ),
    ),
    FaultLine(
        "a parameter that the request has set, named in the error",
        Action.STOP_PARAMETER,
        frozenset({200, 400, 403, 422, 501}),
        (
            Example(
                400,
                "unsupported_value",
                "'temperature' does not support 0.2 with this model.",
                {"temperature": 0.2},
            ),
            Example(
                422, "extra_forbidden", "body.seed: Extra inputs are not permitted", {"seed": 1}
            ),
            Example(
                400,
                "",
                "max_tokens is too large: 100000. This model supports at most 16384 tokens.",
                {"max_tokens": 100000},
            ),
            Example(
                400,
                "",
                "'max_tokens' is too large: 9000. This model's maximum context length is 8192 "
                "tokens and your request has 20 input tokens.",
                {"max_tokens": 9000},
            ),
            Example(
                400,
                "invalid_request_error",
                "`max_completion_tokens` must be less than or equal to `8192`: the maximum is less "
                "than the `context_window` for this model",
                {"max_tokens": 9000},
            ),
            Example(
                400,
                "",
                "Argument not supported on this model: reasoningEffort",
                {"reasoning_effort": "low"},
            ),
        ),
        "https://github.com/gabrii/Cursor-Azure-GPT-5/issues/33, "
        "https://github.com/charmbracelet/crush/issues/386",
        parameter=True,
    ),
    FaultLine(
        "a parameter, by its code",
        Action.STOP_PARAMETER,
        frozenset({200, 400, 422}),
        (Example(400, "unsupported_parameter", "Not with this model."),),
        "https://platform.openai.com/docs/guides/error-codes",
        pattern(r"(?:unsupported|unknown)_(?:parameter|value)|extra_forbidden|unrecognized_\w+"),
    ),
    FaultLine(
        "an address that is not the API's",
        Action.STOP_SERVER,
        frozenset({200, *range(300, 400), 404, 405, 407, 415, 421, 426, 501, 505, 511}),
        (
            Example(200, "", "Unexpected endpoint or method. (POST /chat/completions)"),
            Example(404, "", "Invalid URL (POST /chat/completions)"),
            Example(404, "", "Cannot POST /chat/completions"),
        ),
        "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/618",
        None,
        pattern(
            r"""unexpected[ ]endpoint|(?:invalid|unknown|unrecognized)[ ](?:request[ ])?url
            |cannot[ ]post[ ]|method[ ]not[ ]allowed|no[ ]route"""
        ),
    ),
    FaultLine(
        "a redirect, a proxy, or a method that is not allowed",
        Action.STOP_SERVER,
        frozenset({*range(300, 400), 405, 407, 421, 426, 501, 505, 511}),
        (Example(307), Example(405), Example(511), Example(407)),
        "https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx, "
        "https://www.rfc-editor.org/rfc/rfc6585#section-6",
    ),
    FaultLine(
        "401",
        Action.STOP_KEY,
        frozenset({401}),
        (Example(401, "", "who are you"),),
        "https://www.rfc-editor.org/rfc/rfc9110#name-401-unauthorized",
    ),
    FaultLine(
        "402",
        Action.STOP_ACCOUNT,
        frozenset({402}),
        (Example(402),),
        "https://openrouter.ai/docs/errors",
    ),
    FaultLine(
        "404 or 410, and nothing else is said",
        Action.STOP_MODEL,
        frozenset({404, 410}),
        (Example(404, "", "404 page not found"), Example(410, "", "gone")),
        "https://platform.openai.com/docs/guides/error-codes",
    ),
    FaultLine(
        "busy, or a conflict: 408, 409, 425, 429, 498, 499",
        Action.RETRY,
        frozenset({408, 409, 424, 425, 429, 498, 499}),
        (Example(429, "", "slow down"), Example(408), Example(498)),
        "https://console.groq.com/docs/errors",
    ),
    FaultLine(
        "the server's own fault: 5xx, or an error inside of a 200",
        Action.RETRY,
        frozenset({200, *range(500, 600)}),
        (Example(500, "", "oops"), Example(503), Example(529), Example(200, "", "upstream failed")),
        "https://www.rfc-editor.org/rfc/rfc9110#name-server-error-5xx",
    ),
    FaultLine(
        "any other refusal",
        Action.JUDGE,
        frozenset(range(100, 500)),
        (Example(400, "", "bad"), Example(403, "", "Forbidden"), Example(422, "", "no")),
        "no source: nobody knows; see below",
    ),
)
