figures-too-few = 数据太少
figures-no-interval = 无区间
figures-seconds = { $n } 秒
figures-of = 对象
figures-meanings = 各列的含义
figures-n-pairs = n = { $n } 对，{ $prompts } 个提示
figures-n-ranking-pairs = n = { $n } 对排序，{ $prompts } 个提示
figures-n-rankings = n = { $n } 次排序
figures-n-tasks = n = { $n } 个任务
figures-n-completions = n = { $n } 个回答，{ $prompts } 个提示
figures-n-answers = n = { $n } 次作答，{ $prompts } 个提示
figures-n-answer-pairs = n = { $n } 对作答，{ $prompts } 个提示
figures-n-comparisons = n = { $n } 次比较，{ $prompts } 个提示
figures-n-prompts = n = { $n } 个提示
figures-n-rankings-of-prompts = n = { $n } 次排序，{ $prompts } 个提示
figures-project = 项目
figures-since = 起始日期
figures-until = 截止日期
figures-category = 类别
figures-language = 语言
figures-kind = 任务类型
figures-kind-rank = 对 K 个候选排序
figures-kind-compare = 二选一比较
figures-form-version = 表单版本
figures-any = 全部
figures-simulated = 谁的排序
figures-simulated-false = 仅限人
figures-simulated-true = 人和模拟标注员
figures-simulated-alone = 本项目中由人所作的排序不足 { $fewest } 次，因此这些数字也依据模拟标注员的排序。模拟标注员是有意出错的程序；页面上均有标明，除非另行要求，快照不包含它们。
figures-simulated-in = 这些数字包含模拟标注员的排序。模拟标注员是有意出错的程序；页面上均有标明，除非另行要求，快照不包含它们。
figures-simulated-out = 这些数字不包含模拟标注员的排序。
figures-show = 显示
figures-parts = 本页内容
figures-download = 下载 CSV 表格
figures-json = 全部数据（JSON，供程序使用）
figures-cut = 排序数超出这里读取的上限。此处为符合筛选条件的最新 { $most } 次排序；缩小日期范围可查看其他排序。
figures-is-simulated = 模拟
figures-none = 暂无数据。
figures-newest = 最新一次：{ $at }。
figures-no-rankings = 没有符合筛选条件的排序。
figures-csv-english = 无论页面使用哪种语言，表格的列名和行名都用英文，以便程序读取。
