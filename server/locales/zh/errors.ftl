error-field = { $field }：{ $message }
error-not-found = { $what ->
    [account] 该账户不存在
    [answer] 该回答不存在
    [assignment] 该任务分配不存在
    [checkpoint] 该模型检查点不存在
    [file] 该文件不存在
    [page] 该页面不存在
    [project] 该项目不存在
    [question] 该问题不存在
    [run] 该运行不存在
    [screening] 该筛选不存在
    [session] 该会话不存在
    [sign-in-link] 该登录链接不存在：可能已被使用或已过期
    [snapshot] 该快照不存在
    [task] 该任务不存在
    [token] 该令牌不存在
   *[other] 该内容不存在（{ $what }）
  }
error-sign-in-first = 请先登录
error-signed-out = 您的会话已结束，内容尚未保存。请在新窗口登录，然后重新加载此页：浏览器会再次发送您填写的内容。
error-needs-role = 此操作需要{ $role ->
    [admin] 管理员
    [labeler] 标注员
    [operator] 训练操作员
   *[other] { $role }
  }角色
error-too-many-tries = 尝试次数过多：请等待 { $seconds } 秒
error-internal = 服务器出现错误
error-no-nul = 请去掉字符 U+0000
error-too-large = 内容超过服务器接受的大小
error-upload-too-large = 文件超过本页面的上限 { $most } MiB：请拆分文件，改用 plackett import 导入，或用 --max-upload-mib（PLACKETT_MAX_UPLOAD_MIB）调高服务器的上限
error-other-method = 此地址不接受该请求方法
error-unreadable-address = 此地址或发送到此地址的内容中有无法读取的部分
error-other-site = 此请求来自其他网站
error-took-too-long = 处理时间过长
error-comes-twice = 重复出现
error-no-such-candidate = 不是此任务的候选
error-no-such-flag = 不是此表单中的问题
error-no-entry = 缺少位置 { $position } 的条目
error-needs-rank = 需要名次；名次相同即并列
error-outside = 必须在 { $low } 到 { $high } 之间
error-longer-than = 超过 { $most } 个字符
error-unreadable = 无法读取
error-length = 请使用 1 到 { $most } 个字符
error-choose-reason = 请选择一个原因
error-draft-newer = 另一个窗口保存了更新的草稿：请重新加载查看
error-draft-ended = 此任务分配已结束，草稿不能再修改
error-key-used = 此 Idempotency-Key 已用于另一次提交
error-submitted-already = 此任务已提交
error-skipped-already = 此任务已跳过
error-ended-already = 此任务分配已结束
error-not-an-email = 这不是电子邮件地址
error-email-taken = 使用此地址的账户已存在
error-choose-role = 请至少选择一个角色
error-own-admin-role = 您不能撤销自己的管理员角色
error-own-account = 您不能停用自己的账户
error-simulated-sign-in = 模拟标注员不能登录
error-nothing-selected = 没有符合此选择的内容
error-choose-project = 请选择项目
error-choose-kind = 请选择文件的内容类型
error-choose-file = 请选择文件或粘贴内容
error-choose-format = 请选择 jsonl 或 csv
error-choose-state = 请使用 open、held、done 或 closed
error-choose-language = 请使用 en 或 zh
error-guidelines-empty = 请至少用一种语言撰写指南
error-run-over = 此运行已经结束
field-email = 电子邮件
field-name = 名称
field-roles = 角色
field-kind = 类型
field-project = 项目
field-file = 文件
field-format = 格式
field-state = 状态
field-reason = 原因
field-note = 备注
field-label = 标签
field-categories = 类别
error-password-short = 请至少使用 { $least } 个字符
error-password-long = 请最多使用 { $most } 个字节
error-sign-in-apart = 登录（在新窗口打开）
error-choose-checkpoint = 请选择模型检查点
error-no-checkpoint = 该模型检查点不存在
error-not-a-reward-model = 这不是奖励模型
error-a-reward-model = 奖励模型不能生成文本：请另选一个
error-choose-snapshot = 请选择快照
error-not-a-number = 这不是数字
error-not-a-day = 这不是日期：请写成 2026-11-26 的形式
error-until-before-since = 最后一天早于第一天
error-not-json = 这不是 JSON：{ $reason }
error-unknown-choice = 不在可选范围内
error-most-leases = 此账户在该项目中已持有 { $held } 个任务，最多 { $most } 个：请先提交或跳过一个（GET /api/v1/assignments 可列出）
error-busy-account = 此账户的另一个请求更快：请重试
error-unknown-field = 不是此表单的字段
field-base = 起始模型
field-snapshot = 数据
field-reward = 奖励模型
field-gold = 第二评价
field-texts = 文本
field-demonstrations = 示范
field-preset = 预设
field-settings = 设置
field-candidates = 候选数
field-temperature = 温度
field-top-p = Top-p
field-max-new-tokens = 最长回答
field-seed = 随机种子
field-overlap = 每个任务的标注员数
error-choose-snapshot-of = 请选择{ $kind ->
    [demonstrations] 示范
    [prompts] 提示
    [rankings] 排序
   *[texts] 文本
  }快照
error-run-cannot-resume = 只有失败或被停止的训练运行才能继续
error-gold-is-reward = 这正是奖励模型本身：请选择另一个
error-keep-needs-reward = 请选择：设置 keep 为 best_reward
error-keep-needs-gold = 请选择：设置 keep 为 best_gold
error-no-such-scale = 不是本表单的评分项
error-rank-or-cannot-judge = 既有名次又标为无法判断：请只选其一
error-strength-of-two = 只有两两比较才有强度
error-two-ranks = 请至少为两个回答排名，或者注明全部都差，或者跳过此任务
error-needs-strength = 请注明好多少：1（稍胜）到 4（好得多）
error-strength-of-tie = 并列没有强度
error-corrected-already = 期间已被更正：请打开最新版本
error-nothing-to-correct = 还没有可更正的提交
error-too-old-to-correct = 只能更正您最近的 { $most } 次提交
error-not-assigned = 您没有被分配到这个项目
error-acknowledge-first = 请先阅读并确认该项目最新的指南与知情同意
error-not-newest = 已有更新的版本：请阅读新版
error-csp-report = 这不是浏览器发送的报告
error-is-empty = 为空
error-not-asked = 此处不需要填写：请留空
error-choose-one = 请选择一项
error-most-pairs = 超过 { $most } 组
error-fewest-pairs = 请至少写 { $fewest } 组
error-most-passages = 超过 { $most } 条
error-name-personal-data = 请引用找到的个人信息，或回答“否”
error-personal-data-named = 您在下面引用了个人信息：请回答“是”，或将其删除
error-other-kind = 此任务要求的是其他内容：请重新打开
error-only-personal = 符合条件的 { $n } 条记录的提示都含有个人信息：请选择包含它们，或更改条件
error-needs-use-cases = 请至少提供一个使用场景
error-say-how-many = 请填写数量
error-line = 第 { $line } 行：{ $reason }
error-too-many-tasks = 这将创建 { $n } 个任务；一次最多创建 { $most } 个
error-no-tasks = 此要求不会创建任何任务
error-order-key-used = 此表单曾以其他内容提交：请重新打开
field-work = 标注员要做的事
field-most = 数量
field-n-candidates = 候选数
field-language = 语言
field-category = 类别
error-form-published-meanwhile = 其间有人发布了新的表单版本：请重新打开页面
error-nothing-changed = 与现行版本没有不同
error-not-whole = 请填写整数
error-not-a-slug = 请使用小写字母、数字和单个连字符，最多 { $most } 个字符
error-slug-taken = 已有项目使用该短名称
error-not-language = language：请使用语言代码，例如 en、zh 或 zh-CN
error-not-languages = 请使用两三个字母的语言代码，例如 en zh，最多 20 个
error-too-many-lines = 名单最多 { $most } 行
error-no-lines = 请至少填写一行
error-no-such-account = 没有账户使用该地址，也没有唯一同名的账户
error-no-such-address = 没有账户使用该地址：请由总管理员邀请
error-appoints-admins = 项目管理员只能由总管理员指定
field-slug = 短名称
field-who = 成员
field-languages = 语言
field-role = 职责
field-lease-seconds = 租约时长
field-least-seconds = 过快的界限
field-gold-percent = 金标任务
field-repeat-percent = 重复任务
field-repeat-after-days = 隔多少天可重复
field-evaluation-percent = 留作评估
field-next-task = 下一个任务如何选取
field-is-open = 谁可以标注
error-gold-empty = 请写下已知的内容：至少两个不同的名次，或一个标记
error-gold-of-label = 只有数据集中用于排序或比较的任务才能复制为金标
error-gold-already = 此任务已有金标副本：请打开它，或先停用它
error-gold-at-once = 有人在同一时刻保存了另一版本：请先查看
field-question = 问题
field-answer = 回答
field-published-question = 公布的问题
error-adjudicate-two = 至少有两份排序时才需要裁定
error-adjudicate-own = 您曾作为标注员做过此任务：须由另一位管理员裁定
error-screening-prompt = 这不是本项目中提示的编号，或已在使用
error-screening-invited = 已邀请此人：其筛选尚未结束
error-screening-labeler = 此人已是标注员或无法登录：请改为将标注员分配到项目
error-screening-over = 此筛选已不能开始
error-screening-empty = 此项目还没有筛选任务：须先由管理员建立
error-screening-begun = 此筛选已经开始：不能撤回
error-screening-read = 请先阅读指南
field-least-flags = 标记
field-least-ranks = 排序
field-least-demonstrations = 文本
field-graders = 评分人数
field-prompt = 提示
field-topics = 主题
field-words = 您的补充
field-read = 指南
field-grade = 分数
error-all-left-out = 符合条件的内容全部被排除：因标注已撤回，或因您所选的排除条件
error-not-a-percentage = 请填 0 到 100 之间的数
error-no-labeler-here = 本项目中没有地址为 { $who } 的人提交过内容
field-least-agreement = 任务的最低一致率
field-ties = 并列如何计算
field-least-gold = 与标准答案的最低一致率
field-least-quality = 最低质量
field-without-labelers = 标注员
error-unknown-category = 未知类别“{ $word }”：请使用以下之一：{ $known }
